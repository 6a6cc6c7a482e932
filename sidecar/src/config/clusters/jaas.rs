//! JAAS lines, as Kafka's Java clients have them in `sasl.jaas.config`: a login module, a flag, options, a semicolon
//! (`javax.security.auth.login.Configuration`; Kafka's own reader is `JaasConfig`).

use std::collections::BTreeMap;

/// A line, taken apart.
#[derive(PartialEq, Eq)]
pub(super) struct Line {
    /// The login module's class, without its package.
    pub(super) module: String,
    /// The options by name. Values may be secrets.
    pub(super) options: BTreeMap<String, String>,
}

/// Reads one line.
///
/// # Errors
/// What is wrong, without quoting an option's value.
pub(super) fn parse(text: &str) -> Result<Line, String> {
    let mut words = Words(text.trim_start());
    let class = words
        .word()?
        .ok_or("is empty: write a login module, `required`, its options and `;`")?;
    let module = class.rsplit('.').next().unwrap_or_default().to_owned();
    let flag = words.word()?.unwrap_or_default().to_ascii_lowercase();
    if !matches!(
        flag.as_str(),
        "required" | "requisite" | "sufficient" | "optional"
    ) {
        return Err("must have `required` after its login module".to_owned());
    }
    let mut options = BTreeMap::new();
    while let Some(name) = words.word()? {
        if !words.take('=') {
            return Err(format!("has no `=` after its option {}", readable(&name)));
        }
        let value = words
            .word()?
            .ok_or_else(|| format!("has no value for its option {}", readable(&name)))?;
        if options.insert(name.clone(), value).is_some() {
            return Err(format!("has its option {} twice", readable(&name)));
        }
    }
    if !words.take(';') {
        return Err("must end with `;`".to_owned());
    }
    if !words.0.trim().is_empty() {
        return Err("has something after its `;`: one login module is read".to_owned());
    }
    Ok(Line { module, options })
}

/// A name that may be printed: what stands in the place of one might be a part of a secret.
fn readable(name: &str) -> String {
    const LONGEST: usize = 40;
    if name.len() <= LONGEST && name.chars().all(|c| c.is_ascii_alphabetic() || c == '_') {
        format!("`{name}`")
    } else {
        "(not shown)".to_owned()
    }
}

struct Words<'a>(&'a str);

impl Words<'_> {
    /// The next word or quoted text; `None` before `;` and at the end.
    fn word(&mut self) -> Result<Option<String>, String> {
        self.0 = self.0.trim_start();
        match self.0.chars().next() {
            None | Some(';') => Ok(None),
            Some(quote @ ('"' | '\'')) => self.quoted(quote).map(Some),
            Some('=') => Err("has an option without a name".to_owned()),
            Some(_) => {
                let end = self
                    .0
                    .find(|c: char| c.is_whitespace() || matches!(c, '=' | ';' | '"' | '\''));
                let (word, rest) = self.0.split_at(end.unwrap_or(self.0.len()));
                self.0 = rest;
                Ok(Some(word.to_owned()))
            }
        }
    }

    fn quoted(&mut self, quote: char) -> Result<String, String> {
        let mut text = String::new();
        let mut characters = self.0.char_indices().skip(1);
        while let Some((at, c)) = characters.next() {
            match c {
                c if c == quote => {
                    self.0 = self.0.get(at + c.len_utf8()..).unwrap_or_default();
                    return Ok(text);
                }
                '\\' => match characters.next() {
                    Some((_, 'n')) => text.push('\n'),
                    Some((_, 't')) => text.push('\t'),
                    Some((_, 'r')) => text.push('\r'),
                    Some((_, other)) => text.push(other),
                    None => break,
                },
                c => text.push(c),
            }
        }
        Err("has a quote that is not closed".to_owned())
    }

    fn take(&mut self, wanted: char) -> bool {
        self.0 = self.0.trim_start();
        let rest = self.0.strip_prefix(wanted);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_people_write_them() {
        let plain = "org.apache.kafka.common.security.plain.PlainLoginModule required username=\"alice\" \
                     password=\"a \\\"b\\\" \\\\c;=\";";
        let line = parse(plain).unwrap();
        assert_eq!(line.module, "PlainLoginModule");
        assert_eq!(line.options["username"], "alice");
        assert_eq!(line.options["password"], "a \"b\" \\c;=");
        let spaced =
            "  ScramLoginModule\n  required\n  username = alice\n  password='it is'\n  tokenauth=true ;  ";
        let line = parse(spaced).unwrap();
        assert_eq!(line.options["username"], "alice");
        assert_eq!(line.options["password"], "it is");
        assert_eq!(line.options["tokenauth"], "true");
        let event_hubs = "PlainLoginModule required username=\"$ConnectionString\" \
                          password=\"Endpoint=sb://x.servicebus.windows.net/;SharedAccessKeyName=n;SharedAccessKey=k=\";";
        let line = parse(event_hubs).unwrap();
        assert_eq!(line.options["username"], "$ConnectionString");
        assert!(line.options["password"].ends_with("SharedAccessKey=k="));
        assert!(
            parse("OAuthBearerLoginModule required;")
                .unwrap()
                .options
                .is_empty()
        );
    }

    #[test]
    fn what_is_wrong_is_told_without_values() {
        for (text, expected) in [
            ("", "is empty"),
            ("PlainLoginModule", "must have `required`"),
            ("PlainLoginModule username=hunter2;", "must have `required`"),
            ("PlainLoginModule required username=hunter2", "must end with `;`"),
            ("PlainLoginModule required hunter2;", "(not shown)"),
            (
                "PlainLoginModule required username;",
                "no `=` after its option `username`",
            ),
            (
                "PlainLoginModule required username=;",
                "no value for its option `username`",
            ),
            ("PlainLoginModule required =hunter2;", "without a name"),
            ("PlainLoginModule required password=\"hunter2;", "not closed"),
            (
                "PlainLoginModule required a=hunter2 a=hunter2;",
                "its option `a` twice",
            ),
            ("PlainLoginModule required; hunter2", "after its `;`"),
        ] {
            let Err(why) = parse(text) else {
                panic!("{text} is good")
            };
            assert!(why.contains(expected), "{text}: {why}");
            assert!(!why.contains("hunter2"), "{text}: {why}");
        }
    }
}
