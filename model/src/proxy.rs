//! The build arguments that name proxies. BuildKit knows them without an `ARG` and keeps them out of an image's history;
//! their values may hold a password.

use std::borrow::Cow;
use std::collections::BTreeMap;

/// In upper case; each counts in lower case too.
pub const ARGUMENTS: [&str; 5] = ["HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"];

/// What is shown instead of a user's name and password.
const MASK: &str = "***";

/// Whether a build argument of this name is a proxy.
pub fn is_argument(name: &str) -> bool {
    ARGUMENTS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// The same arguments, fit to be shown: without the users and passwords of proxies.
pub fn masked_arguments(arguments: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let shown = |(name, value): (&String, &String)| {
        let value = if is_argument(name) { masked(value).into_owned() } else { value.clone() };
        (name.clone(), value)
    };
    arguments.iter().map(shown).collect()
}

/// A proxy's address without user and password. A password may hold a `/` or an `@` that should have been escaped, so
/// everything up to the last `@` goes.
pub fn masked(address: &str) -> Cow<'_, str> {
    let Some(at) = address.rfind('@') else { return Cow::Borrowed(address) };
    let start = address[..at].find("://").map_or(0, |scheme| scheme + "://".len());
    Cow::Owned(format!("{}{MASK}{}", &address[..start], &address[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (address, want) in [
            ("http://proxy:3128", "http://proxy:3128"),
            ("http://user:hush@proxy:3128/", "http://***@proxy:3128/"),
            ("user:hush@proxy", "***@proxy"),
            ("http://user:hu/s@h@proxy", "http://***@proxy"),
            ("localhost,.example", "localhost,.example"),
            ("", ""),
        ] {
            assert_eq!(masked(address), want);
        }
    }

    #[test]
    fn only_proxies_are_masked() {
        let arguments = [("Https_Proxy", "http://u:p@h"), ("MAIL", "a@b")];
        let shown = masked_arguments(&arguments.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        assert_eq!(shown["Https_Proxy"], "http://***@h");
        assert_eq!(shown["MAIL"], "a@b");
    }
}
