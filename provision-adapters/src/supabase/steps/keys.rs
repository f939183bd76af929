//! Which of a project's keys is for clients and which for servers.

use provision_core::Secret;

use crate::supabase::model::ApiKey;

/// The two keys a project is used with.
pub(crate) struct Keys {
    pub(crate) client: Secret,
    pub(crate) server: Secret,
}

/// Picks the keys; `None` while one of them is not there.
///
/// New keys come first, since projects may switch the old ones off: the publishable one, and the
/// secret one that acts as `service_role`. Else the old ones, by their names.
pub(crate) fn pick(keys: &[ApiKey]) -> Option<Keys> {
    let publishable = keys.iter().find(|k| is(k, "publishable"));
    let secret = keys.iter().find(|k| {
        let role = k.secret_jwt_template.as_ref().and_then(|t| t.role.as_deref());
        is(k, "secret") && role == Some("service_role")
    });
    let client = publishable.and_then(value).or_else(|| named(keys, "anon"))?;
    let server = secret.and_then(value).or_else(|| named(keys, "service_role"))?;
    Some(Keys { client, server })
}

fn is(key: &ApiKey, kind: &str) -> bool {
    key.kind.as_deref() == Some(kind)
}

fn named(keys: &[ApiKey], name: &str) -> Option<Secret> {
    let old = |k: &&ApiKey| k.name == name && (k.kind.is_none() || is(k, "legacy"));
    keys.iter().find(old).and_then(value)
}

/// The value, unless it is masked.
fn value(key: &ApiKey) -> Option<Secret> {
    let value = key.api_key.as_deref()?;
    let whole = !value.is_empty() && value.chars().all(|c| c.is_ascii_graphic() && c != '*');
    whole.then(|| Secret::new(value))
}

#[cfg(test)]
mod tests {
    use super::pick;
    use crate::supabase::model::ApiKey;

    fn picked(keys: serde_json::Value) -> Option<(String, String)> {
        let keys: Vec<ApiKey> = serde_json::from_value(keys).unwrap();
        pick(&keys).map(|k| (k.client.expose().to_owned(), k.server.expose().to_owned()))
    }

    #[test]
    fn new_keys_win_over_old_ones_and_masked_ones_are_no_keys() {
        let old = serde_json::json!([
            { "name": "anon", "type": "legacy", "api_key": "a" },
            { "name": "service_role", "type": "legacy", "api_key": "s" },
        ]);
        assert_eq!(picked(old), Some(("a".to_owned(), "s".to_owned())));
        let both = serde_json::json!([
            { "name": "anon", "api_key": "a" },
            { "name": "service_role", "api_key": "s" },
            { "name": "default", "type": "publishable", "api_key": "p" },
            { "name": "other", "type": "secret", "api_key": "x" },
            { "name": "default", "type": "secret", "api_key": "k",
              "secret_jwt_template": { "role": "service_role" } },
        ]);
        assert_eq!(picked(both), Some(("p".to_owned(), "k".to_owned())));
        let masked = serde_json::json!([
            { "name": "default", "type": "publishable", "api_key": "p" },
            { "name": "default", "type": "secret", "api_key": "sb_secret_ab\u{b7}\u{b7}\u{b7}",
              "secret_jwt_template": { "role": "service_role" } },
        ]);
        assert_eq!(picked(masked), None);
        assert_eq!(picked(serde_json::json!([])), None);
    }
}
