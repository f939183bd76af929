//! Cuts SQL text into words, names, values, operators and brackets, as the server would.

/// What a piece of SQL is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or a name without quotes.
    Word,
    /// A name in quotes.
    Name,
    /// A text or a number.
    Value,
    Operator,
    Open,
    Close,
    /// A comma, full stop, semicolon or colon.
    Mark,
}

/// One piece of a text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'t> {
    pub(super) kind: Kind,
    pub(super) text: &'t str,
    /// Where it begins in the text.
    at: usize,
}

impl Token<'_> {
    /// Whether it is this keyword.
    pub(super) fn is(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text.eq_ignore_ascii_case(word)
    }

    pub(super) fn is_one_of(&self, words: &[&str]) -> bool {
        words.iter().any(|word| self.is(word))
    }

    /// Whether it is this operator or mark.
    pub(super) fn is_sign(&self, sign: &str) -> bool {
        matches!(self.kind, Kind::Operator | Kind::Mark) && self.text == sign
    }

    pub(super) fn is_name(&self) -> bool {
        matches!(self.kind, Kind::Word | Kind::Name)
    }
}

/// The text from the first token to the last, as it was written.
pub(super) fn written<'t>(source: &'t str, tokens: &[Token<'t>]) -> &'t str {
    match (tokens.first(), tokens.last()) {
        (Some(first), Some(last)) => source.get(first.at..last.at + last.text.len()),
        _ => None,
    }
    .unwrap_or_default()
}

/// Reads a text. None where it holds what is not understood here, such as an open quote or bracket.
pub(super) fn read(source: &str) -> Option<Vec<Token<'_>>> {
    let mut tokens = Vec::new();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let (kind, length) = piece(rest)?;
        match kind {
            Some(Kind::Open) => depth += 1,
            Some(Kind::Close) => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if let Some(kind) = kind {
            tokens.push(Token { kind, text: rest.get(..length)?, at });
        }
        at += length;
    }
    (depth == 0).then_some(tokens)
}

/// The text with a space for each comment. None where it holds what is not understood here.
pub(in crate::tools::row_security) fn without_comments(source: &str) -> Option<String> {
    let (mut text, mut at) = (String::new(), 0);
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let (kind, length) = piece(rest)?;
        text.push_str(if kind.is_some() { rest.get(..length)? } else { " " });
        at += length;
    }
    Some(text)
}

/// The kind and length of what a text begins with; no kind for what is only space.
fn piece(rest: &str) -> Option<(Option<Kind>, usize)> {
    const SIGNS: &str = "+-*/<>=~!@#%^&|`?";
    let first = rest.chars().next()?;
    let run = |part: fn(char) -> bool| rest.find(|c| !part(c)).unwrap_or(rest.len());
    Some(match first {
        _ if rest.starts_with("--") => (None, rest.find('\n').unwrap_or(rest.len())),
        _ if rest.starts_with("/*") => (None, comment(rest)?),
        _ if rest.starts_with("::") => (Some(Kind::Operator), 2),
        ' ' | '\t' | '\n' | '\r' => (None, 1),
        '(' | '[' => (Some(Kind::Open), 1),
        ')' | ']' => (Some(Kind::Close), 1),
        ',' | '.' | ';' | ':' => (Some(Kind::Mark), 1),
        '\'' => (Some(Kind::Value), quoted(rest, '\'', false)?),
        '"' => (Some(Kind::Name), quoted(rest, '"', false)?),
        'e' | 'E' if rest.get(1..2) == Some("'") => {
            (Some(Kind::Value), 1 + quoted(rest.get(1..)?, '\'', true)?)
        }
        '0'..='9' => (Some(Kind::Value), run(|c| c.is_ascii_alphanumeric() || c == '.')),
        // A parameter of a function by its number; texts in dollar quotes are not read.
        '$' => {
            let digits = rest.chars().skip(1).take_while(char::is_ascii_digit).count();
            (Some(Kind::Word), (digits > 0).then_some(1 + digits)?)
        }
        c if c.is_alphabetic() || c == '_' => {
            (Some(Kind::Word), run(|c| c.is_alphanumeric() || c == '_' || c == '$'))
        }
        c if SIGNS.contains(c) => (Some(Kind::Operator), signs(rest, SIGNS)),
        _ => return None,
    })
}

/// The length of an operator, which ends where a comment begins.
fn signs(rest: &str, signs: &str) -> usize {
    let end = rest.find(|c| !signs.contains(c)).unwrap_or(rest.len());
    let operator = rest.get(..end).unwrap_or_default();
    ["--", "/*"].iter().filter_map(|comment| operator.find(comment)).min().unwrap_or(end)
}

/// The length of a comment, with those within it.
fn comment(rest: &str) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let (open, close) = (rest.get(at..)?.find("/*"), rest.get(at..)?.find("*/")?);
        match open {
            Some(open) if open < close => (depth, at) = (depth + 1, at + open + 2),
            _ => (depth, at) = (depth.checked_sub(1)?, at + close + 2),
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

/// The length of a quoted text with its quotes; a doubled quote does not end it.
fn quoted(rest: &str, quote: char, escapes: bool) -> Option<usize> {
    let mut inside = rest.char_indices().skip(1).peekable();
    while let Some((at, c)) = inside.next() {
        if escapes && c == '\\' {
            inside.next();
        } else if c == quote && inside.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + quote.len_utf8());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{read, written};

    #[test]
    fn a_text_is_cut_as_the_server_cuts_it() {
        let cases: [(&str, Option<&[&str]>); 11] = [
            ("(a.b)::text", Some(&["(", "a", ".", "b", ")", "::", "text"])),
            ("'it''s' || E'\\'or'", Some(&["'it''s'", "||", "E'\\'or'"])),
            ("\"a\"\"b\" <>-- or\n 1", Some(&["\"a\"\"b\"", "<>", "1"])),
            ("a /* x /* or */ y */ b", Some(&["a", "b"])),
            ("$1 = 'x'", Some(&["$1", "=", "'x'"])),
            ("$$a$$", None),
            ("$a$ or $a$", None),
            ("'open", None),
            ("/* open", None),
            ("a) or (b", None),
            ("(a", None),
        ];
        for (text, expected) in cases {
            let tokens = read(text);
            let texts = tokens.as_ref().map(|tokens| tokens.iter().map(|t| t.text).collect());
            assert_eq!(texts, expected.map(<[&str]>::to_vec), "{text}");
        }
        let text = "a  = ( b )";
        assert_eq!(written(text, &read(text).unwrap()[1..4]), "= ( b");
    }
}
