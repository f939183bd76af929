//! Finds the statements of a migration, to refuse those that would end its transaction.
//!
//! It reads SQL as far as it must to know where a statement ends: comments, quotes, dollar quotes
//! and the bodies of SQL functions. What a statement means is the database's business.

/// Statements that begin, end or divide a transaction.
const TRANSACTION: [&str; 9] =
    ["begin", "start", "commit", "rollback", "abort", "end", "savepoint", "release", "prepare"];

/// Why a migration cannot be part of one transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A statement that begins, ends or divides a transaction: its first word.
    Transaction(String),
    /// A command of the terminal client, such as `\connect`.
    ClientCommand,
    /// A quote or comment that does not end.
    Unfinished,
}

/// Refuses a migration that would not stay within one transaction.
pub(crate) fn check(sql: &str) -> Result<(), Refusal> {
    let mut reader = Reader::new(sql);
    while let Some(word) = reader.next_word()? {
        if !reader.first {
            continue;
        }
        if word.starts_with('\\') {
            return Err(Refusal::ClientCommand);
        }
        // `prepare` alone names a statement; only `prepare transaction` is ours to refuse.
        let harmless = word == "prepare" && !reader.peek_is("transaction");
        if TRANSACTION.contains(&word.as_str()) && !harmless {
            return Err(Refusal::Transaction(word));
        }
    }
    Ok(())
}

struct Reader<'a> {
    rest: &'a str,
    /// Whether the word just read is the first of its statement.
    first: bool,
    begun: bool,
    /// Open `begin atomic` and `case` of a function's body; semicolons in it end nothing.
    depth: usize,
    last: String,
    /// Whether nothing lies between the last word and what comes.
    adjacent: bool,
}

impl<'a> Reader<'a> {
    fn new(sql: &'a str) -> Self {
        Self {
            rest: sql,
            first: false,
            begun: false,
            depth: 0,
            last: String::new(),
            adjacent: false,
        }
    }

    /// The next bare word in lower case, or `None` at the end.
    fn next_word(&mut self) -> Result<Option<String>, Refusal> {
        loop {
            self.skip_blank()?;
            let Some(c) = self.rest.chars().next() else { return Ok(None) };
            match c {
                ';' => self.semicolon(),
                // Only a prefix that touches its quote gives backslashes a meaning.
                '\'' => self.quoted('\'', self.adjacent && self.last == "e")?,
                '"' => self.quoted('"', false)?,
                '$' => self.dollar()?,
                '\\' if !self.begun => {
                    self.first = true;
                    return Ok(Some("\\".to_owned()));
                }
                c if c.is_alphabetic() || c == '_' => return Ok(Some(self.word())),
                c => {
                    self.advance(c.len_utf8());
                    self.last.clear();
                    self.begun = true;
                }
            }
        }
    }

    fn peek_is(&self, word: &str) -> bool {
        let next: String = self.rest.trim_start().chars().take(word.len()).collect();
        next.eq_ignore_ascii_case(word)
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = self.rest.get(bytes..).unwrap_or_default();
    }

    fn semicolon(&mut self) {
        self.advance(1);
        self.last.clear();
        self.begun = self.begun && self.depth > 0;
    }

    fn word(&mut self) -> String {
        let part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
        let end = self.rest.find(|c: char| !part(c)).unwrap_or(self.rest.len());
        let word = self.rest.get(..end).unwrap_or_default().to_lowercase();
        self.advance(end);
        self.first = !self.begun;
        self.begun = true;
        match word.as_str() {
            "atomic" if self.last == "begin" && self.depth == 0 => self.depth = 1,
            "case" if self.depth > 0 => self.depth += 1,
            "end" if self.depth > 0 => self.depth -= 1,
            _ => {}
        }
        self.last.clone_from(&word);
        self.adjacent = true;
        word
    }

    fn skip_blank(&mut self) -> Result<(), Refusal> {
        loop {
            let trimmed = self.rest.trim_start();
            self.adjacent &= trimmed.len() == self.rest.len();
            self.rest = trimmed;
            if self.rest.starts_with("--") {
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.advance(end);
            } else if self.rest.starts_with("/*") {
                self.block_comment()?;
            } else {
                return Ok(());
            }
        }
    }

    /// Comments of PostgreSQL nest.
    fn block_comment(&mut self) -> Result<(), Refusal> {
        let mut depth = 0_usize;
        loop {
            if self.rest.starts_with("/*") {
                depth += 1;
                self.advance(2);
            } else if self.rest.starts_with("*/") {
                depth -= 1;
                self.advance(2);
                if depth == 0 {
                    return Ok(());
                }
            } else {
                let c = self.rest.chars().next().ok_or(Refusal::Unfinished)?;
                self.advance(c.len_utf8());
            }
        }
    }

    fn quoted(&mut self, quote: char, escapes: bool) -> Result<(), Refusal> {
        self.begun = true;
        self.last.clear();
        self.advance(1);
        loop {
            let c = self.rest.chars().next().ok_or(Refusal::Unfinished)?;
            self.advance(c.len_utf8());
            if escapes && c == '\\' {
                let escaped = self.rest.chars().next().ok_or(Refusal::Unfinished)?;
                self.advance(escaped.len_utf8());
            } else if c == quote {
                if !self.rest.starts_with(quote) {
                    return Ok(());
                }
                self.advance(1);
            }
        }
    }

    fn dollar(&mut self) -> Result<(), Refusal> {
        self.begun = true;
        self.last.clear();
        let after = self.rest.get(1..).unwrap_or_default();
        let end = after.find(|c: char| !(c.is_alphanumeric() || c == '_'));
        let tag = end.and_then(|end| after.get(..end)).unwrap_or_default();
        let opens = !tag.starts_with(|c: char| c.is_ascii_digit())
            && after.get(tag.len()..).is_some_and(|rest| rest.starts_with('$'));
        if !opens {
            // A parameter such as `$1`.
            self.advance(1);
            return Ok(());
        }
        let tag = format!("${tag}$");
        self.advance(tag.len());
        let close = self.rest.find(&tag).ok_or(Refusal::Unfinished)?;
        self.advance(close + tag.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Refusal, check};

    #[test]
    fn a_migration_stays_within_its_transaction() {
        let good = [
            "",
            "create table t (a int); -- commit;\n/* rollback; /* begin; */ */ select 1",
            "create function f() returns void language plpgsql as $$ begin perform 1; end; $$;",
            "do $x$ begin if true then commit; end if; end $x$",
            "create function f() returns int begin atomic select case when true then 1 end; select 2; end; select 1",
            "insert into t values ('x; commit;'), (E'\\'; commit; --'), (\"a;commit\")",
            "comment on table t is e'it''s; end;'",
            "select $1; prepare p as select 1",
            "select 'name'; select 1 as e, 'x; y'",
        ];
        for sql in good {
            assert_eq!(check(sql), Ok(()), "{sql}");
        }
        let ends = |word: &str| Err(Refusal::Transaction(word.to_owned()));
        let bad = [
            ("select 1; COMMIT; drop table t", ends("commit")),
            ("begin; select 1", ends("begin")),
            ("/* x */ start transaction", ends("start")),
            ("select e '\\'; rollback; --'", ends("rollback")),
            ("select '\\'; end", ends("end")),
            ("savepoint a", ends("savepoint")),
            ("prepare transaction 'x'", ends("prepare")),
            ("create function f() returns int begin atomic select 1; end; commit", ends("commit")),
            ("\\connect other", Err(Refusal::ClientCommand)),
            ("select 'open", Err(Refusal::Unfinished)),
            ("/* /* */", Err(Refusal::Unfinished)),
            ("do $a$ begin $b$", Err(Refusal::Unfinished)),
        ];
        for (sql, expected) in bad {
            assert_eq!(check(sql), expected, "{sql}");
        }
    }
}
