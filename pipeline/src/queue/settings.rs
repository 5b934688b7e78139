//! What in the server's own settings would hurt. Only told: the pipeline is right even on a Redis that forgets.

use std::collections::HashMap;

use super::{Queue, QueueError};

/// Our scripts say that they may run on a full server, which older ones take for a syntax error.
const OLDEST: u32 = 7;

impl Queue {
    /// The server's version, an error if it is too old for us; `None` if it does not let us look.
    pub async fn server_version(&self) -> Result<Option<String>, QueueError> {
        let mut connection = self.connection().await?;
        let info: String = match redis::cmd("INFO").arg("server").query_async(&mut connection).await
        {
            Ok(info) => info,
            Err(error) if error.code() == Some("NOPERM") => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        supported(&info)
    }

    /// Sentences for an operator, each with the remedy; empty when all is well or the server does not let us look.
    pub async fn settings_warnings(&self) -> Result<Vec<String>, QueueError> {
        let mut connection = self.connection().await?;
        let mut settings = HashMap::new();
        for name in ["maxmemory-policy", "appendonly", "timeout"] {
            match redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await {
                Ok(found) => settings.extend::<HashMap<String, String>>(found),
                // A restricted user may not read settings; that is good practice, not a fault.
                Err(error) if error.code() == Some("NOPERM") => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(warnings(&settings))
    }
}

fn supported(info: &str) -> Result<Option<String>, QueueError> {
    let Some(version) = info.lines().find_map(|line| line.strip_prefix("redis_version:")) else {
        return Ok(None);
    };
    let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
    if major.is_some_and(|major| major < OLDEST) {
        return Err(QueueError::Config(format!(
            "it is Redis {version}, and no job can be queued on one older than {OLDEST}.0: update it"
        )));
    }
    Ok(Some(version.to_owned()))
}

fn warnings(settings: &HashMap<String, String>) -> Vec<String> {
    let unlike = |name: &str, wanted: &str| settings.get(name).is_some_and(|is| is != wanted);
    let mut warnings = Vec::new();
    if unlike("maxmemory-policy", "noeviction") {
        warnings.push(
            "Redis evicts keys when it is full, so waiting jobs are delayed until they are found \
             missing: set `maxmemory-policy noeviction`"
                .to_owned(),
        );
    }
    if unlike("appendonly", "yes") {
        warnings.push(
            "Redis forgets its lists when it restarts, so waiting jobs are delayed until they are \
             found missing: set `appendonly yes`"
                .to_owned(),
        );
    }
    if unlike("timeout", "0") {
        warnings.push("Redis closes idle connections: set `timeout 0`".to_owned());
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_does_not_know_our_scripts_is_too_old() {
        let told = |version: &str| supported(&format!("# Server\r\nredis_version:{version}\r\n"));
        for version in ["7.0.0", "7.2.4", "8.2.1", "10.0.0"] {
            assert_eq!(told(version).expect("new enough").as_deref(), Some(version));
        }
        for version in ["6.2.14", "5.0.7"] {
            let error = told(version).expect_err("too old").to_string();
            assert!(error.contains(version) && error.contains("7.0"), "{error}");
        }
        assert_eq!(supported("# Server\r\n").expect("nothing is known"), None);
    }

    #[test]
    fn only_settings_that_hurt_are_told() {
        let settings = |policy: &str, append: &str, timeout: &str| {
            HashMap::from([
                ("maxmemory-policy".to_owned(), policy.to_owned()),
                ("appendonly".to_owned(), append.to_owned()),
                ("timeout".to_owned(), timeout.to_owned()),
            ])
        };
        assert_eq!(warnings(&settings("noeviction", "yes", "0")), Vec::<String>::new());
        assert_eq!(warnings(&settings("allkeys-lru", "no", "30")).len(), 3);
        assert_eq!(warnings(&HashMap::new()), Vec::<String>::new());
    }
}
