//! Who an image's `USER` is, and what that user may do with a file: as runtimes find the one (moby/sys/user), and
//! Linux decides the other. Access lists and capabilities are not looked at.

use super::nodes::About;

/// The most of `/etc/passwd` and of `/etc/group` that is kept, in bytes. Longer ones tell nothing.
pub(super) const ACCOUNTS_BYTES: u64 = 64 * 1024;

/// May enter a folder, or execute a file.
pub(super) const EXECUTE: u32 = 0o1;
/// May read a file.
pub(super) const READ: u32 = 0o4;

/// What one of the two files says.
#[derive(Debug, Clone, Copy)]
pub(super) enum Accounts<'a> {
    /// It is not there.
    Missing,
    /// It is, and was not kept.
    Unknown,
    Known(&'a [u8]),
}

/// Who runs an image's command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Who {
    /// May do whatever anybody may.
    Root,
    Somebody(User),
    /// It cannot be told from here.
    Unknown,
    /// There is no such user or group, so no runtime starts the image.
    Nobody(String),
}

/// One that is not root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    uid: u32,
    /// The primary group first.
    groups: Vec<u32>,
}

impl Who {
    /// Who `USER spec` is.
    pub(super) fn of(spec: &str, passwd: Accounts<'_>, group: Accounts<'_>) -> Self {
        let (name, wanted) = spec.split_once(':').unwrap_or((spec, ""));
        let number = name.parse::<u32>().ok();
        let is_root = name.is_empty() || number == Some(0) || name == "root";
        if is_root && !matches!(passwd, Accounts::Known(_)) {
            return Self::Root;
        }
        if matches!(passwd, Accounts::Unknown) {
            return Self::Unknown;
        }
        let name = if name.is_empty() { "0" } else { name };
        let number = name.parse::<u32>().ok();
        let found = lines(passwd).find_map(|fields| {
            let uid = fields.get(2)?.parse::<u32>().ok()?;
            let fits = fields[0] == name || number == Some(uid);
            fits.then(|| (fields[0], uid, fields.get(3).and_then(|gid| gid.parse().ok()).unwrap_or(0)))
        });
        let (account, uid, mut gid) = match (found, number) {
            (Some((account, uid, gid)), _) => (Some(account), uid, gid),
            (None, Some(uid)) => (None, uid, 0),
            (None, None) => return Self::Nobody(format!("the user {name:?}, who is not in its /etc/passwd")),
        };
        if uid == 0 {
            return Self::Root;
        }
        let mut more = Vec::new();
        if !wanted.is_empty() {
            let number = wanted.parse::<u32>().ok();
            let found = lines(group).find_map(|fields| {
                let gid = fields.get(2)?.parse::<u32>().ok()?;
                let fits = number.map_or(fields[0] == wanted, |number| number == gid);
                fits.then_some(gid)
            });
            gid = match found.or(number) {
                Some(gid) => gid,
                None if matches!(group, Accounts::Unknown) => return Self::Unknown,
                None => return Self::Nobody(format!("the group {wanted:?}, which is not in its /etc/group")),
            };
        } else if let Some(account) = account {
            if matches!(group, Accounts::Unknown) {
                return Self::Unknown;
            }
            more.extend(lines(group).filter_map(|fields| {
                let is_member = fields.get(3)?.split(',').any(|member| member == account);
                is_member.then(|| fields.get(2)?.parse::<u32>().ok())?
            }));
        }
        let mut groups = vec![gid];
        groups.append(&mut more);
        Self::Somebody(User { uid, groups })
    }
}

impl User {
    /// Whether the user may do this with what is owned so: the owner's bits count for the owner alone, then the
    /// group's for its members, then the others'.
    pub(super) fn may(&self, access: u32, about: &About) -> bool {
        let shift = if about.uid == self.uid {
            6
        } else if self.groups.contains(&about.gid) {
            3
        } else {
            0
        };
        (about.mode >> shift) & access == access
    }
}

/// The fields of every account, the name first.
fn lines(accounts: Accounts<'_>) -> impl Iterator<Item = Vec<&str>> {
    let bytes = match accounts {
        Accounts::Known(bytes) => bytes,
        Accounts::Missing | Accounts::Unknown => &[],
    };
    let lines = bytes.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok());
    let lines = lines.map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split(':').map(str::trim).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: Accounts<'_> = Accounts::Known(
        b"root:x:0:0:root:/root:/bin/sh\nadmin:x:0:0::/:/bin/sh\napp:x:1000:1001::/:/bin/sh\n\nbad line\nbin:x:2:2::/:\n",
    );
    const GROUP: Accounts<'_> =
        Accounts::Known(b"root:x:0:\nstaff:x:50:other,app\ndocker:x:999:app\nweb:x:33:\n");

    fn somebody(uid: u32, groups: &[u32]) -> Who {
        Who::Somebody(User { uid, groups: groups.to_vec() })
    }

    #[test]
    fn a_user_is_found_as_runtimes_find_it() {
        for (spec, who) in [
            ("", Who::Root),
            ("0", Who::Root),
            ("root", Who::Root),
            ("admin:web", Who::Root),
            ("app", somebody(1000, &[1001, 50, 999])),
            ("1000", somebody(1000, &[1001, 50, 999])),
            ("app:web", somebody(1000, &[33])),
            ("app:33", somebody(1000, &[33])),
            ("app:4242", somebody(1000, &[4242])),
            ("4242", somebody(4242, &[0])),
            ("4242:web", somebody(4242, &[33])),
        ] {
            assert_eq!(Who::of(spec, PASSWD, GROUP), who, "{spec}");
        }
        for (spec, says) in [("nope", "\"nope\""), ("app:nope", "\"nope\"")] {
            let who = Who::of(spec, PASSWD, GROUP);
            assert!(matches!(&who, Who::Nobody(what) if what.contains(says)), "{who:?}");
        }
    }

    #[test]
    fn what_was_not_kept_tells_nothing() {
        for (spec, passwd, group, who) in [
            ("app", Accounts::Unknown, GROUP, Who::Unknown),
            ("app", PASSWD, Accounts::Unknown, Who::Unknown),
            ("app:web", PASSWD, Accounts::Unknown, Who::Unknown),
            ("app:5", PASSWD, Accounts::Unknown, somebody(1000, &[5])),
            ("", Accounts::Unknown, Accounts::Unknown, Who::Root),
            ("7", Accounts::Missing, Accounts::Missing, somebody(7, &[0])),
            ("root", Accounts::Missing, Accounts::Missing, Who::Root),
        ] {
            assert_eq!(Who::of(spec, passwd, group), who, "{spec}");
        }
    }

    #[test]
    fn the_first_class_that_fits_decides() {
        let user = User { uid: 1000, groups: vec![1001, 50] };
        for (uid, gid, mode, may) in [
            (1000, 0, 0o100, true),
            (1000, 0, 0o011, false),
            (0, 50, 0o010, true),
            (0, 1001, 0o101, false),
            (0, 0, 0o001, true),
            (0, 0, 0o770, false),
        ] {
            let about = About { mode, uid, gid, ..About::default() };
            assert_eq!(user.may(EXECUTE, &about), may, "{uid}:{gid} {mode:o}");
        }
    }
}
