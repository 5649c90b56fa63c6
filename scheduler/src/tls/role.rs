//! What the bearer of a certificate may be: the organizational unit (OU) of the certificate's subject.

use std::fmt;

/// What a certificate may be used for. It is written into the certificate as the subject's OU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A person or a program that submits builds.
    Client,
    /// A worker; its certificate's name is the worker's.
    Worker,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Client, Self::Worker];

    /// The word for it: in certificates, in messages, and in `archyard cert issue --role`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Worker => "worker",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
