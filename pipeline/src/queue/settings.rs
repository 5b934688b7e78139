//! What in the server's own settings would hurt. Only told: the pipeline is right even on a Redis that forgets.

use std::collections::HashMap;

use super::{Queue, QueueError};

impl Queue {
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
