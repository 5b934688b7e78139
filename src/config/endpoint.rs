//! Where a server is, in the forms that people write: a URL, a host, a host with a port. Pure.

use url::Url;

use super::ConfigError;

/// The port that a MinIO named by its host alone listens on.
const DEFAULT_PORT: u16 = 9000;

/// Joins what several settings say about one endpoint; settings that contradict each other are refused.
/// `name` is the setting that the errors talk about.
pub(super) fn endpoint(
    name: &str,
    given: &str,
    port: Option<u16>,
    tls: Option<bool>,
) -> Result<Url, ConfigError> {
    let refuse = |why: &str| {
        ConfigError(format!(
            "{name} is {given:?}: {why}. Write a URL (http://host:9000), a host, or host:port"
        ))
    };
    let (scheme, authority) = match given.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest.strip_suffix('/').unwrap_or(rest)),
        None => (None, given),
    };
    let scheme = match (scheme, tls) {
        (Some("http"), Some(true)) | (Some("https"), Some(false)) => {
            return Err(refuse("MINIO_USE_SSL says the opposite"));
        }
        (Some("https"), _) | (None, Some(true)) => "https",
        (Some("http") | None, _) => "http",
        (Some(_), _) => return Err(refuse("only http and https lead to MinIO")),
    };
    if authority.contains('@') {
        return Err(ConfigError(format!(
            "{name} holds a user or password. Put them into MINIO_ACCESS_KEY and MINIO_SECRET_KEY"
        )));
    }
    if authority.contains(['/', '?', '#']) {
        return Err(refuse("it has a path, and S3 signatures need the root of a host"));
    }
    let written = written_port(authority);
    if let (Some(written), Some(port)) = (written, port)
        && written != port.to_string()
    {
        return Err(refuse(&format!("MINIO_PORT says {port}")));
    }
    let port = match (written, port, given.contains("://")) {
        (Some(_), _, _) | (None, None, true) => String::new(),
        (None, Some(port), _) => format!(":{port}"),
        (None, None, false) => format!(":{DEFAULT_PORT}"),
    };
    Url::parse(&format!("{scheme}://{authority}{port}/"))
        .map_err(|error| refuse(&error.to_string()))
}

/// The port in `host:port`; colons inside the brackets of an IPv6 address are not one.
fn written_port(authority: &str) -> Option<&str> {
    let after_address = authority.rfind(']').map_or(authority, |bracket| &authority[bracket..]);
    after_address.rsplit_once(':').map(|(_, port)| port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(given: &str, port: Option<u16>, tls: Option<bool>) -> Result<String, String> {
        endpoint("MINIO_ENDPOINT", given, port, tls)
            .map(|url| url.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn every_usual_way_to_write_it_is_understood() {
        for (given, port, tls, expected) in [
            ("http://minio:9000", None, None, "http://minio:9000/"),
            ("http://minio:9000/", Some(9000), Some(false), "http://minio:9000/"),
            ("https://s3.example.org", None, None, "https://s3.example.org/"),
            ("https://s3.example.org", Some(9443), Some(true), "https://s3.example.org:9443/"),
            ("minio", None, None, "http://minio:9000/"),
            ("minio", Some(80), None, "http://minio/"),
            ("minio:9100", None, None, "http://minio:9100/"),
            ("minio", Some(9443), Some(true), "https://minio:9443/"),
            ("127.0.0.1", None, Some(false), "http://127.0.0.1:9000/"),
            ("[::1]", None, None, "http://[::1]:9000/"),
            ("[::1]:9100", Some(9100), None, "http://[::1]:9100/"),
        ] {
            assert_eq!(parse(given, port, tls).as_deref(), Ok(expected), "{given}");
        }
    }

    #[test]
    fn contradictions_and_nonsense_are_refused_with_the_reason() {
        for (given, port, tls, reason) in [
            ("https://minio", None, Some(false), "MINIO_USE_SSL"),
            ("http://minio", None, Some(true), "MINIO_USE_SSL"),
            ("minio:9100", Some(9000), None, "MINIO_PORT"),
            ("http://minio:80", Some(9000), None, "MINIO_PORT"),
            ("ftp://minio", None, None, "http and https"),
            ("http://minio/bucket", None, None, "path"),
            ("minio:port", None, None, "invalid port"),
            ("http://", None, None, "empty host"),
        ] {
            let error = parse(given, port, tls).expect_err(given);
            assert!(error.contains(reason), "{given}: {error}");
        }
    }

    #[test]
    fn a_password_in_the_endpoint_is_not_repeated() {
        let error = parse("http://root:hunter2@minio", None, None).expect_err("it has a password");
        assert!(!error.contains("hunter2") && error.contains("MINIO_SECRET_KEY"), "{error}");
    }
}
