//! What can be provisioned at Tailscale, one file each, and how its things carry the owner mark.

use provision_core::OwnerMark;

use super::{DESCRIPTION_MAX, NAME_MAX};

pub(crate) mod device;
pub(crate) mod key;

const DESCRIPTION_PREFIX: &str = "prov ";
const HOSTNAME_INFIX: &str = "-p";
/// Length of a mark's token.
const TOKEN_CHARS: usize = 12;

/// What the description of a key of ours is: the mark's token, and the name for people. The
/// provider takes letters, digits, hyphens and spaces there.
pub(crate) fn description(mark: &OwnerMark, name: &str) -> String {
    let text = format!("{DESCRIPTION_PREFIX}{} {name}", mark.token());
    text.chars().take(DESCRIPTION_MAX).collect()
}

/// Whether a description carries this mark.
pub(crate) fn describes(mark: &OwnerMark, description: &str) -> bool {
    let token =
        description.strip_prefix(DESCRIPTION_PREFIX).and_then(|rest| rest.split(' ').next());
    token == Some(mark.token().as_str())
}

/// Whether a description is one of ours, of whatever run.
pub(crate) fn is_description(description: &str) -> bool {
    description
        .strip_prefix(DESCRIPTION_PREFIX)
        .and_then(|rest| rest.split(' ').next())
        .is_some_and(is_token)
}

/// The host name that a machine joins under: its name, and the token of the mark.
pub(crate) fn hostname(mark: &OwnerMark, name: &str) -> String {
    format!("{name}{HOSTNAME_INFIX}{}", mark.token())
}

/// Whether a host name is one of ours, of whatever run.
pub(crate) fn is_hostname(hostname: &str) -> bool {
    hostname
        .rsplit_once(HOSTNAME_INFIX)
        .is_some_and(|(name, token)| !name.is_empty() && is_token(token))
}

fn is_token(text: &str) -> bool {
    text.len() == TOKEN_CHARS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What is wrong with the name of a machine, if anything is.
pub(crate) fn objection(name: &str) -> Option<&'static str> {
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > NAME_MAX {
        return Some("the name has no character, or more than 49");
    }
    if !name.chars().all(sound) || name.starts_with('-') || name.ends_with('-') {
        return Some("the name is not made of lower-case letters, digits and inner hyphens");
    }
    None
}

#[cfg(test)]
mod tests {
    use provision_core::{OwnerMark, RunId};

    use super::{describes, description, hostname, is_description, is_hostname, objection};

    // covers: S11
    #[test]
    fn a_mark_is_found_again_and_never_taken_for_another() {
        let run = |n: u128| RunId::from_uuid(uuid::Uuid::from_u128(n));
        let (mine, other) = (OwnerMark::new(run(1), "key"), OwnerMark::new(run(2), "key"));
        for name in ["agent-7", &"a".repeat(49)] {
            let text = description(&mine, name);
            assert!(
                text.len() <= 50
                    && text.chars().all(|c| c.is_ascii_alphanumeric() || "- ".contains(c))
            );
            assert!(describes(&mine, &text) && !describes(&other, &text) && is_description(&text));
            let host = hostname(&mine, name);
            assert!(host.len() <= 63 && is_hostname(&host), "{host}");
            assert_ne!(host, hostname(&other, name));
        }
        for text in
            ["", "prov", "prov x", "prov 0123456789abc", "laptop", "web-prod", "-p0123456789ab"]
        {
            assert!(
                !is_description(text) && !is_hostname(text) && !describes(&mine, text),
                "{text}"
            );
        }
    }

    #[test]
    fn names_are_dns_labels() {
        for name in ["a", "agent-7", "0"] {
            assert_eq!(objection(name), None, "{name}");
        }
        for name in ["", "-a", "a-", "A", "a.b", "a_b", "ü", &"a".repeat(50)] {
            assert!(objection(name).is_some(), "{name}");
        }
    }
}
