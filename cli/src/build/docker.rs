//! The user's docker configuration: `config.json`, read once for credentials and proxies.

use std::collections::BTreeMap;
use std::path::PathBuf;

use archyard_model::proxy;
use serde::Deserialize;

/// The key of the proxies that apply to every Engine without an entry.
const DEFAULT: &str = "default";

/// `$DOCKER_CONFIG/config.json`, or `~/.docker/config.json`. None: there is none.
pub(crate) fn config() -> Option<Vec<u8>> {
    let folder = std::env::var_os("DOCKER_CONFIG")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| dirs::home_dir().map(|home| home.join(".docker")))?;
    std::fs::read(folder.join("config.json")).ok()
}

#[derive(Debug, Default, Deserialize)]
struct Config {
    #[serde(default)]
    proxies: BTreeMap<String, Proxies>,
}

/// One Engine's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Proxies {
    http_proxy: String,
    https_proxy: String,
    ftp_proxy: String,
    no_proxy: String,
    all_proxy: String,
}

/// The build arguments that name the user's proxies, in upper and lower case: those of the Engine at `engine`, else the
/// default ones. What is wrong with the file is a warning, as a build may not need them.
pub(crate) fn proxies(config: Option<&[u8]>, engine: Option<&str>) -> Result<Vec<(String, String)>, String> {
    let Some(config) = config else { return Ok(Vec::new()) };
    let mut config: Config = serde_json::from_slice(config)
        // The line is enough: the value may be a password.
        .map_err(|error| {
            format!(
                "warning: proxies of docker's config.json are not used: line {} is not as docker writes it",
                error.line()
            )
        })?;
    let own = engine.and_then(|engine| config.proxies.remove(engine));
    let Proxies { http_proxy, https_proxy, ftp_proxy, no_proxy, all_proxy } =
        own.or_else(|| config.proxies.remove(DEFAULT)).unwrap_or_default();
    let values = [http_proxy, https_proxy, ftp_proxy, no_proxy, all_proxy];
    let pairs = proxy::ARGUMENTS.into_iter().zip(values).filter(|(_, value)| !value.is_empty());
    Ok(pairs
        .flat_map(|(name, value)| [(name.to_owned(), value.clone()), (name.to_ascii_lowercase(), value)])
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
        "auths": {"r.example": {"auth": "dXNlcjpodXNo"}},
        "proxies": {
            "default": {"httpProxy": "http://u:hush@p:3128", "noProxy": "localhost", "ftpProxy": ""},
            "unix:///var/run/docker.sock": {"allProxy": "socks5://own"}
        }
    }"#;

    fn names(config: &str, engine: Option<&str>) -> Vec<String> {
        let proxies = proxies(Some(config.as_bytes()), engine).unwrap();
        proxies.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn proxies_are_arguments_in_both_cases() {
        let default = [
            "HTTP_PROXY=http://u:hush@p:3128",
            "http_proxy=http://u:hush@p:3128",
            "NO_PROXY=localhost",
            "no_proxy=localhost",
        ];
        assert_eq!(names(CONFIG, None), default);
        assert_eq!(names(CONFIG, Some("unix:///other.sock")), default);
        let own = names(CONFIG, Some("unix:///var/run/docker.sock"));
        assert_eq!(own, ["ALL_PROXY=socks5://own", "all_proxy=socks5://own"]);
        assert_eq!(names("{}", None), [""; 0]);
        assert_eq!(proxies(None, None).unwrap(), []);
    }

    #[test]
    fn a_broken_file_is_a_warning_without_its_content() {
        for config in ["{\"proxies\":\n {\"default\": {\"httpProxy\": [\"hush\"]}}}", "hush"] {
            let warning = proxies(Some(config.as_bytes()), None).unwrap_err();
            assert!(
                warning.starts_with("warning: proxies of docker's config.json are not used: line "),
                "{warning}"
            );
            assert!(!warning.contains("hush"), "{warning}");
        }
    }
}
