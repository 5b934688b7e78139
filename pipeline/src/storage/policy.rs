//! What anybody may read without a key: thumbnails and playback, as in `minio-setup/bucket-policy.json`.
//! Pure: adds what is missing to the policy that a bucket has, and never takes away what somebody else put there.

use serde_json::{Value, json};

use super::StorageError;

/// The policy of a bucket named `clipstream`.
const PUBLIC_READ: &str = include_str!("../../../minio-setup/bucket-policy.json");

/// The statements that the bucket needs.
pub(super) fn wanted(bucket: &str) -> Result<Vec<Value>, StorageError> {
    let text = PUBLIC_READ.replace("arn:aws:s3:::clipstream/", &format!("arn:aws:s3:::{bucket}/"));
    let policy: Value = serde_json::from_str(&text).map_err(|error| {
        StorageError::Config(format!("minio-setup/bucket-policy.json is not JSON: {error}"))
    })?;
    Ok(statements(&policy))
}

/// The policy with what it lacks, or `None` when it lacks nothing.
pub(super) fn completed(existing: &Value, wanted: &[Value]) -> Option<Value> {
    let mut all = statements(existing);
    let lacking: Vec<Value> = wanted
        .iter()
        .filter(|wanted| !all.iter().any(|statement| covers(statement, wanted)))
        .cloned()
        .collect();
    if lacking.is_empty() {
        return None;
    }
    all.extend(lacking);
    Some(json!({ "Version": "2012-10-17", "Statement": all }))
}

fn statements(policy: &Value) -> Vec<Value> {
    policy.get("Statement").map(listed).unwrap_or_default()
}

/// Whether a statement grants, without conditions and to everybody, all that another one does.
fn covers(statement: &Value, wanted: &Value) -> bool {
    let has_all = |field: &str| {
        let there = statement.get(field).map(listed).unwrap_or_default();
        wanted.get(field).map(listed).unwrap_or_default().iter().all(|value| there.contains(value))
    };
    let conditional = statement
        .get("Condition")
        .is_some_and(|condition| condition.as_object().is_none_or(|map| !map.is_empty()));
    statement.get("Effect") == wanted.get("Effect")
        && everybody(statement.get("Principal"))
        && has_all("Action")
        && has_all("Resource")
        && !conditional
}

/// `"*"`, `{"AWS": "*"}` and `{"AWS": ["*"]}` mean the same; MinIO gives back the last.
fn everybody(principal: Option<&Value>) -> bool {
    let star = json!("*");
    principal.is_some_and(|principal| {
        let named = principal.get("AWS").unwrap_or(principal);
        listed(named).contains(&star)
    })
}

/// IAM lets a list of one be written without its brackets.
fn listed(value: &Value) -> Vec<Value> {
    match value {
        Value::Array(values) => values.clone(),
        Value::Null => Vec::new(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => {
            vec![value.clone()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_of_another_name_gets_its_own_resources() {
        let wanted = wanted("clips").expect("the file is a policy");
        let text = serde_json::to_string(&wanted).expect("JSON");
        assert!(text.contains("arn:aws:s3:::clips/thumbnails/*"), "{text}");
        assert!(!text.contains("arn:aws:s3:::clipstream/"), "{text}");
    }

    #[test]
    fn a_policy_without_brackets_is_recognised() {
        let wanted = wanted("clipstream").expect("the file is a policy");
        let existing = json!({ "Statement": [
            { "Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",
              "Resource": ["arn:aws:s3:::clipstream/processed-videos/*", "arn:aws:s3:::clipstream/thumbnails/*"] }
        ]});
        assert_eq!(completed(&existing, &wanted), None);
    }

    #[test]
    fn what_somebody_else_granted_stays() {
        let wanted = wanted("clipstream").expect("the file is a policy");
        let foreign = json!({ "Effect": "Allow", "Principal": { "AWS": ["*"] }, "Action": ["s3:GetObject"],
            "Resource": ["arn:aws:s3:::clipstream/docs/*"] });
        let completed =
            completed(&json!({ "Statement": [foreign.clone(), wanted[0].clone()] }), &wanted);
        let all = statements(&completed.expect("one statement is missing"));
        assert_eq!(all, [foreign, wanted[0].clone(), wanted[1].clone()]);
    }

    #[test]
    fn a_grant_with_a_condition_is_not_the_one_we_need() {
        let wanted = wanted("clipstream").expect("the file is a policy");
        let mut narrow = wanted.clone();
        narrow[0]["Condition"] = json!({ "IpAddress": { "aws:SourceIp": ["10.0.0.0/8"] } });
        assert!(completed(&json!({ "Statement": narrow }), &wanted).is_some());
    }
}
