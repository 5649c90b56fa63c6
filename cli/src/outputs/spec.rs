//! `-o/--output`, as buildx reads it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use archyard_model::{Invalid, Output};

/// Where the result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputSpec {
    /// `type=cacheonly`: nowhere; it is built and verified.
    Check,
    /// `type=registry`, `type=image,push=true`, `--push`: into registries.
    Push,
    /// `type=oci` and `type=docker` with a destination: one archive over all platforms.
    Oci(Dest),
    /// `type=docker`, `--load`: into this user's Engine.
    Load,
    /// `type=local`, `-o DIR`: files below a folder.
    Local(PathBuf),
    /// `type=tar`, `-o -`: the same files as one tar.
    Tar(Dest),
}

/// Where bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Dest {
    /// `-`.
    Stdout,
    /// A file, replaced whole; or a pipe or a device, written to.
    File(PathBuf),
}

impl OutputSpec {
    /// What the plan is asked for.
    pub(crate) fn output(&self) -> Output {
        match self {
            Self::Check => Output::Check,
            Self::Push => Output::Push,
            Self::Oci(_) => Output::Oci,
            Self::Load => Output::Load,
            Self::Local(_) => Output::Local,
            Self::Tar(_) => Output::Tar,
        }
    }
}

impl fmt::Display for Dest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("-"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

impl FromStr for OutputSpec {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let fields = fields(text)?;
        // buildx: one word without a type is a folder, or a tar on standard output.
        if let [only] = fields.as_slice()
            && only == text
            && !text.starts_with("type=")
        {
            return match text {
                "" => {
                    Err(wrong(text, "it is empty; write type=oci,dest=FILE, type=local,dest=DIR or a folder"))
                }
                "-" => Ok(Self::Tar(Dest::Stdout)),
                folder => Ok(Self::Local(folder.into())),
            };
        }
        Fields::read(text, &fields)?.into_spec(text)
    }
}

/// `key=value` pairs, each once.
#[derive(Debug, Default)]
struct Fields {
    kind: Option<String>,
    dest: Option<String>,
    push: bool,
}

impl Fields {
    fn read(text: &str, fields: &[String]) -> Result<Self, Invalid> {
        let mut read = Self::default();
        for field in fields {
            let Some((key, value)) = field.split_once('=') else {
                let problem = match field.is_empty() {
                    true => "there is nothing between two commas or at an end; leave out a comma".to_owned(),
                    false => format!("{field:?} has no value; write KEY=VALUE, with commas between"),
                };
                return Err(wrong(text, &problem));
            };
            let slot = match key.trim().to_ascii_lowercase().as_str() {
                "type" => &mut read.kind,
                "dest" => &mut read.dest,
                "push" => {
                    read.push = match value {
                        "true" | "1" => true,
                        "false" | "0" => false,
                        _ => return Err(wrong(text, "push is true or false")),
                    };
                    continue;
                }
                "name" => return Err(wrong(text, "give names with -t/--tag")),
                other => {
                    let problem = format!("{other:?} is not known here; type, dest and push are");
                    return Err(wrong(text, &problem));
                }
            };
            if slot.replace(value.to_owned()).is_some() {
                return Err(wrong(text, &format!("{key} is given twice")));
            }
        }
        Ok(read)
    }

    fn into_spec(self, text: &str) -> Result<OutputSpec, Invalid> {
        let Self { kind, dest, push } = self;
        let kind =
            kind.ok_or_else(|| wrong(text, "type is missing; write type=oci, load, local, tar or registry"))?;
        if push && kind != "image" {
            return Err(wrong(text, "push goes with type=image"));
        }
        let dest = match dest.as_deref() {
            None => None,
            Some("") => {
                let problem = "dest is empty; write dest=FILE, or dest=- for standard output";
                return Err(wrong(
                    text,
                    if kind == "local" { "dest is empty; write dest=DIR" } else { problem },
                ));
            }
            Some("-") => Some(Dest::Stdout),
            Some(path) => Some(Dest::File(path.into())),
        };
        let spec = match (kind.as_str(), dest) {
            ("oci", dest) => OutputSpec::Oci(dest.unwrap_or(Dest::Stdout)),
            ("docker", Some(dest)) => OutputSpec::Oci(dest),
            ("tar", dest) => OutputSpec::Tar(dest.unwrap_or(Dest::Stdout)),
            ("local", Some(Dest::File(folder))) => OutputSpec::Local(folder),
            ("local", Some(Dest::Stdout)) => {
                return Err(wrong(text, "a folder cannot go to standard output; use type=tar"));
            }
            ("local", None) => return Err(wrong(text, "dest is missing: the folder to write to")),
            ("load" | "registry" | "image" | "cacheonly", Some(_)) => {
                return Err(wrong(text, "dest does not go with this type"));
            }
            ("docker" | "load", None) => OutputSpec::Load,
            ("registry", None) => OutputSpec::Push,
            ("image", None) if push => OutputSpec::Push,
            ("image", None) => {
                return Err(wrong(text, "an image is not kept on workers; add push=true, or use --load"));
            }
            ("cacheonly", None) => OutputSpec::Check,
            _ => {
                let problem = "expected type=oci, load, docker, local, tar, registry, image or cacheonly";
                return Err(wrong(text, problem));
            }
        };
        Ok(spec)
    }
}

fn wrong(text: &str, problem: &str) -> Invalid {
    Invalid::new("--output", text, problem)
}

/// A line of CSV: commas between fields, which may stand in double quotes.
fn fields(text: &str) -> Result<Vec<String>, Invalid> {
    let (mut fields, mut field, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    if quoted {
        return Err(wrong(text, "a quote is not closed"));
    }
    fields.push(field);
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Dest {
        Dest::File(path.into())
    }

    #[test]
    fn reads_what_buildx_reads() {
        for (text, want) in [
            ("out", OutputSpec::Local("out".into())),
            ("-", OutputSpec::Tar(Dest::Stdout)),
            ("type=local,dest=out", OutputSpec::Local("out".into())),
            ("type=tar,dest=a.tar", OutputSpec::Tar(file("a.tar"))),
            ("type=tar", OutputSpec::Tar(Dest::Stdout)),
            ("dest=a.tar,type=oci", OutputSpec::Oci(file("a.tar"))),
            ("type=oci,dest=-", OutputSpec::Oci(Dest::Stdout)),
            (r#"type=oci,"dest=a,b.tar""#, OutputSpec::Oci(file("a,b.tar"))),
            ("type=docker", OutputSpec::Load),
            ("type=docker,dest=a.tar", OutputSpec::Oci(file("a.tar"))),
            ("type=registry", OutputSpec::Push),
            ("type=image,push=true", OutputSpec::Push),
            ("type=cacheonly", OutputSpec::Check),
        ] {
            assert_eq!(text.parse(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "type=oci"),
            ("type=local", "dest"),
            ("type=local,dest=-", "type=tar"),
            ("type=zip,dest=x", "expected type="),
            ("type=oci,dest=", "\"type=oci,dest=\": dest is empty; write dest=FILE, or dest=-"),
            ("type=local,dest=", "dest is empty; write dest=DIR"),
            ("type=oci,dest=a,dest=b", "twice"),
            ("type=oci,compression=zstd", "compression"),
            ("type=image", "push=true"),
            ("type=oci,name=x", "-t"),
            ("type=oci,push=true", "type=image"),
            ("type=registry,dest=x", "dest"),
            ("type=oci,\"dest=a", "quote"),
            ("type=oci,dest", "KEY=VALUE"),
            ("type=oci,dest=a,", "leave out a comma"),
        ] {
            let error = text.parse::<OutputSpec>().unwrap_err();
            assert_eq!(error.field, "--output", "{text}");
            assert!(error.to_string().contains(part), "{text}: {error}");
        }
    }
}
