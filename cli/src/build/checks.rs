//! The flags of what an image must pass before its platform succeeds.

use archyard_model::ForeignPolicy;
use archyard_plan::CheckFlags;

/// Run and inspect, on the worker that built it.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Checks")]
pub(crate) struct CheckArgs {
    /// Run the image with these words, as `docker run IMAGE WORDS` would; repeat for several. '' runs its own command
    /// [default: the image's label archyard.smoke-test]
    #[arg(long, value_name = "WORDS")]
    smoke_test: Vec<String>,
    /// Give smoke tests a network
    #[arg(long)]
    smoke_test_network: bool,
    /// Let smoke tests write to their root
    #[arg(long)]
    smoke_test_writable: bool,
    /// How long each smoke test may take [default: 60s]
    #[arg(long, value_name = "DURATION")]
    smoke_test_timeout: Option<String>,
    /// Memory of each smoke test, in b, k, m or g [default: 512m]
    #[arg(long, value_name = "SIZE")]
    smoke_test_memory: Option<String>,
    /// Executables of other machines beside the command: allow, warn or deny
    #[arg(long, value_enum, value_name = "POLICY", default_value_t, hide_possible_values = true)]
    foreign: Foreign,
    /// Executables that may be of other machines, as a glob over paths in the image; repeat for several
    #[arg(long, value_name = "GLOB")]
    foreign_allow: Vec<String>,
    /// The image only holds files: it need not name a command
    #[arg(long)]
    data_only: bool,
}

/// As `--foreign` takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Foreign {
    Allow,
    #[default]
    Warn,
    Deny,
}

impl CheckArgs {
    /// As a plan takes them.
    pub(crate) fn flags(&self) -> CheckFlags {
        CheckFlags {
            smoke_tests: self.smoke_test.clone(),
            smoke_network: self.smoke_test_network,
            smoke_writable: self.smoke_test_writable,
            smoke_timeout: self.smoke_test_timeout.clone(),
            smoke_memory: self.smoke_test_memory.clone(),
            foreign: match self.foreign {
                Foreign::Allow => ForeignPolicy::Allow,
                Foreign::Warn => ForeignPolicy::Warn,
                Foreign::Deny => ForeignPolicy::Deny,
            },
            foreign_allow: self.foreign_allow.clone(),
            data_only: self.data_only,
        }
    }
}
