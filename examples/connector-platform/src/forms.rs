//! Fields as forms and queries write them.

/// The fields of a form or a query, decoded, in their order.
pub(crate) fn fields(encoded: &str) -> Vec<(String, String)> {
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decoded(name), decoded(value))
    };
    encoded.split('&').map(pair).collect()
}

fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let hex = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        rest = match (byte, hex) {
            (b'%', Some(value)) => {
                out.push(value);
                tail.get(2..).unwrap_or_default()
            }
            (b'+', _) => {
                out.push(b' ');
                tail
            }
            _ => {
                out.push(*byte);
                tail
            }
        };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::fields;

    #[test]
    fn fields_are_decoded_and_what_is_wrongly_encoded_stays() {
        let read = fields("hub.mode=subscribe&a%20b=c+d%2F&100%=%zz&x");
        let read: Vec<_> = read.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(read, [("hub.mode", "subscribe"), ("a b", "c d/"), ("100%", "%zz"), ("x", "")]);
    }
}
