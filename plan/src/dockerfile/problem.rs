//! The parser's complaints in words that say what to write instead.

/// Instructions that a line may begin with.
const INSTRUCTIONS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];
/// How alike two words are where one is taken for a slip of the other, from 0 to 1.
const NEAR: f64 = 0.5;

/// What is wrong with `line`, of which the parser says `said`.
pub(super) fn explain(said: &str, line: &str) -> String {
    let mut words = line.split_whitespace();
    let first = words.next().unwrap_or_default().to_ascii_uppercase();
    let remedy = match said {
        _ if ["<<<<<<<", "=======", ">>>>>>>"].contains(&first.as_str()) => {
            "a merge left its marks here; resolve the conflict".to_owned()
        }
        _ if said.starts_with("unknown instruction") && first == "ONBUILD" => {
            "ONBUILD needs an instruction after it, as in ONBUILD RUN make".to_owned()
        }
        _ if said.starts_with("unknown instruction") => match meant(&first, &INSTRUCTIONS) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "a line begins with an instruction, as in RUN make; a long one ends with '\\'".to_owned(),
        },
        "expected AS" | "expected newline or eof" if first == "FROM" => match words.next() {
            Some(flag @ "--platform") => {
                format!("write the flag with '=', as in FROM {flag}=linux/amd64 IMAGE")
            }
            _ => "write FROM IMAGE, or FROM IMAGE AS NAME".to_owned(),
        },
        _ if said.starts_with("FROM instruction requires") => {
            "name an image, as in FROM debian:12".to_owned()
        }
        _ if said.starts_with("expected at least one FROM") => "add one, as in FROM debian:12".to_owned(),
        _ if said.starts_with("expected FROM") => "only ARG may stand above the first FROM".to_owned(),
        _ if said.starts_with("COPY instruction") || said.starts_with("ADD instruction") => {
            format!("name sources and a destination, as in {first} app /usr/bin/")
        }
        "expected JSON array" => format!("write words as JSON, as in {first} [\"/bin/bash\", \"-c\"]"),
        _ if said.starts_with("invalid escape") => "it may be \\ or `".to_owned(),
        _ => return said.to_owned(),
    };
    format!("{said}: {remedy}")
}

/// The known word that was probably meant.
pub(super) fn meant<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |known: &&str| strsim::normalized_damerau_levenshtein(word, known);
    let best = known.iter().copied().max_by(|a, b| alike(a).total_cmp(&alike(b)))?;
    (alike(&best) >= NEAR).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_are_named() {
        for (said, line, want) in [
            ("unknown instruction 'FORM'", "FORM b", "unknown instruction 'FORM': did you mean FROM?"),
            ("unknown instruction 'rnu'", "rnu x", "unknown instruction 'rnu': did you mean RUN?"),
            (
                "unknown instruction 'version:'",
                "version: 3",
                "unknown instruction 'version:': a line begins with",
            ),
            (
                "unknown instruction '<<<<<<<'",
                "<<<<<<< HEAD",
                "unknown instruction '<<<<<<<': a merge left its marks",
            ),
            ("unknown instruction ''", "ONBUILD", "unknown instruction '': ONBUILD needs an instruction"),
            ("expected AS", "FROM a b", "expected AS: write FROM IMAGE, or FROM IMAGE AS NAME"),
            ("expected AS", "from --platform x a", "expected AS: write the flag with '='"),
            ("expected JSON array", "SHELL bash", "expected JSON array: write words as JSON, as in SHELL ["),
            ("something new", "FROM a", "something new"),
        ] {
            let problem = explain(said, line);
            assert!(problem.starts_with(want), "{problem}");
        }
        assert_eq!(meant("platfrom", &["platform"]), Some("platform"));
        assert_eq!(meant("x", &[]), None);
    }
}
