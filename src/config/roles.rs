//! What one process of several does.

use std::str::FromStr;

use pipeline::stage::Stage;

/// What one process does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roles {
    pub api: bool,
    pub webhook: bool,
    pub dispatch: bool,
    /// The stages it works on; empty when it is no worker.
    pub stages: Vec<Stage>,
}

impl Roles {
    #[must_use]
    pub fn all() -> Self {
        Self { api: true, webhook: true, dispatch: true, stages: Stage::ALL.to_vec() }
    }
}

impl FromStr for Roles {
    type Err = String;

    /// Words with commas between them. After `worker=STAGE` further stages may follow.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut roles = Self { api: false, webhook: false, dispatch: false, stages: Vec::new() };
        let mut after_worker = false;
        for word in text.split(',').map(str::trim) {
            let stage = word.strip_prefix("worker=").or(after_worker.then_some(word));
            match (word, stage.map(Stage::from_str)) {
                (_, Some(Ok(stage))) => {
                    after_worker = true;
                    roles.stages.push(stage);
                    continue;
                }
                ("all", _) => roles = Self::all(),
                ("api", _) => roles.api = true,
                ("webhook", _) => roles.webhook = true,
                ("dispatch", _) => roles.dispatch = true,
                ("worker", _) => roles.stages.extend(Stage::ALL),
                (_, Some(Err(unknown))) if word.starts_with("worker=") => {
                    return Err(unknown.to_string());
                }
                _ => {
                    return Err(format!(
                        "{word:?} is not a role; the roles are all, api, webhook, dispatch, worker, and worker=STAGE"
                    ));
                }
            }
            after_worker = false;
        }
        roles.stages.sort_unstable();
        roles.stages.dedup();
        Ok(roles)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_words_with_commas() {
        let roles = |text: &str| Roles::from_str(text);
        assert_eq!(roles("all"), Ok(Roles::all()));
        assert_eq!(roles("api,webhook,dispatch,worker"), Ok(Roles::all()));
        let some = roles("api, worker=embeddings,transcode,dispatch").expect("roles");
        assert_eq!(some.stages, [Stage::Transcode, Stage::Embeddings]);
        assert!(some.api && some.dispatch && !some.webhook);
        assert_eq!(roles("worker=transcode,worker=transcode").expect("roles").stages.len(), 1);
    }

    #[test]
    fn an_unknown_role_or_stage_is_named() {
        for (text, named) in [
            ("api,wroker", "wroker"),
            ("worker=trancode", "trancode"),
            ("transcode", "transcode"),
            ("", "\"\""),
        ] {
            let error = Roles::from_str(text).expect_err(text);
            assert!(error.contains(named), "{error}");
        }
    }
}
