//! Which topics an entry is about: names, patterns, choices, and what is made of claims.

use regex::Regex;
use serde_json::Value;
use sluice_settings::Section;

use super::super::read::check_topic;
use super::super::{Choice, ClaimedTopics, ReadTopics, Template, TopicAllowlist};

pub(super) fn topics(section: &Section<'_>) -> Option<ReadTopics> {
    if section.raw("topic").is_some() {
        for key in ["topics", "topics_pattern"] {
            section.refuse(key, "is set beside `topic`: an entry has one of them");
        }
        if let Some(name) = section.raw("topic").and_then(Value::as_str) {
            let text = format!(
                "is a choice, as {{header: x-topic, allowed: [{name}]}}; one topic is `topics: [{name}]`"
            );
            section.problem("topic", text);
        } else if !matches!(section.raw("topic"), Some(Value::Object(_))) {
            section.problem("topic", "is a choice, as {header: x-topic, allowed: [orders]}");
        }
        return Choice::read(section, "topic", check_topic).map(ReadTopics::Chosen);
    }
    let names = section.strings("topics");
    let pattern = section.string("topics_pattern");
    match (names, pattern) {
        (Some(_), Some(_)) => {
            section.problem(
                "topics_pattern",
                "is set beside `topics`: an entry has one of them",
            );
            None
        }
        (Some(names), None) => {
            if names.is_empty() {
                section.problem("topics", "must not be empty");
            }
            Some(named(section, names))
        }
        (None, Some(text)) => match topics_pattern(&text) {
            Ok(pattern) => Some(ReadTopics::Pattern(pattern)),
            Err(why) => {
                section.problem("topics_pattern", why);
                None
            }
        },
        (None, None) => {
            if section.raw("topics").is_none() && section.raw("topics_pattern").is_none() {
                section.problem("topics", "is required, as [orders, audit.*], or `topics_pattern`");
            }
            None
        }
    }
}

fn named(section: &Section<'_>, names: Vec<String>) -> ReadTopics {
    let mut templates = Vec::new();
    let mut fixed = Vec::new();
    for (i, entry) in names.into_iter().enumerate() {
        let key = format!("topics[{i}]");
        if entry.contains(['{', '}']) {
            match Template::parse(&entry) {
                Ok(template) => templates.push(template),
                Err(why) => section.problem(&key, why),
            }
            continue;
        }
        let name = entry.strip_suffix('*').unwrap_or(&entry);
        if entry != "*" && check_topic(name).is_err() {
            section.problem(
                &key,
                format!("{entry:?} is neither a topic's name nor the start of one with a `*` at its end"),
            );
        }
        fixed.push(entry);
    }
    let fixed = TopicAllowlist(fixed);
    if templates.is_empty() {
        ReadTopics::Names(fixed)
    } else {
        ReadTopics::Claimed(ClaimedTopics { fixed, templates })
    }
}

/// What a compiled pattern may take in memory, in bytes: the library's own bound is ten times that.
const PATTERN_BYTES: usize = 1 << 20;

/// A Java regular expression that a topic's whole name must match, as Kafka's consumers have it.
///
/// # Errors
/// What of Java's syntax the engine does not have, or what is wrong with it.
pub fn topics_pattern(text: &str) -> Result<Regex, String> {
    if let Some(found) = lacking(text) {
        return Err(format!(
            "has {found}, which matching in linear time cannot have: write it without"
        ));
    }
    let build = |text: &str| regex::RegexBuilder::new(text).size_limit(PATTERN_BYTES).build();
    // By itself first: `a)|(b` is only an expression with something around it.
    let built = build(text).and_then(|_| build(&format!("^(?:{text})$")));
    built.map_err(|error| {
        // The error draws the pattern; its last line says what is wrong.
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default().trim();
        format!(
            "is no regular expression that can be used: {}",
            last.trim_start_matches("error: ")
        )
    })
}

/// What in Java's syntax (`java.util.regex.Pattern`) means something else to the engine, or that it only says in
/// general terms it does not know.
fn lacking(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut at, mut class, mut quantified) = (0, 0_usize, false);
    while let Some(byte) = bytes.get(at) {
        let rest = bytes.get(at..).unwrap_or_default();
        let was = std::mem::take(&mut quantified);
        match byte {
            b'\\' => {
                match rest.get(1) {
                    Some(digit @ b'1'..=b'9') => {
                        return Some(format!("a back-reference (`\\{}`)", char::from(*digit)));
                    }
                    Some(b'k') => return Some("a back-reference (`\\k<…>`)".to_owned()),
                    Some(b'Q') => return Some("a quotation (`\\Q…\\E`)".to_owned()),
                    _ => {}
                }
                at += 1;
            }
            b'[' => class += 1,
            b']' if class > 0 => class -= 1,
            b'-' | b'~' if class > 0 && rest.get(1) == Some(byte) => {
                let operator = char::from(*byte);
                return Some(format!("`{operator}{operator}` in a class"));
            }
            _ if class > 0 => {}
            b'(' if rest.starts_with(b"(?=") || rest.starts_with(b"(?!") => {
                return Some(format!("a lookahead (`(?{}`)", char::from(*rest.get(2)?)));
            }
            b'(' if rest.starts_with(b"(?<=") || rest.starts_with(b"(?<!") => {
                return Some(format!("a lookbehind (`(?<{}`)", char::from(*rest.get(3)?)));
            }
            b'(' if rest.starts_with(b"(?>") => return Some("an atomic group (`(?>`)".to_owned()),
            b'+' if was => {
                let before = at.checked_sub(1).and_then(|i| bytes.get(i)).copied();
                return Some(format!(
                    "a possessive quantifier (`{}+`)",
                    char::from(before.unwrap_or(b'+'))
                ));
            }
            b'*' | b'+' | b'}' => quantified = true,
            // After another quantifier it makes that one lazy.
            b'?' if !was && at > 0 && bytes.get(at - 1) != Some(&b'(') => quantified = true,
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_names() {
        let pattern = topics_pattern("orders\\.(eu|us)-[0-9]+?").unwrap();
        assert!(pattern.is_match("orders.eu-12"));
        for other in ["my-orders.eu-1", "orders.eu-1x", "orders.eu-", "ordersxeu-1"] {
            assert!(!pattern.is_match(other), "{other}");
        }
        let alternatives = topics_pattern("a|b").unwrap();
        assert!(alternatives.is_match("b") && !alternatives.is_match("ab"));
    }

    #[test]
    fn java_syntax_that_is_not_there_is_named() {
        for (pattern, what) in [
            ("(?!internal).*", "a lookahead (`(?!`)"),
            ("(?=x).*", "a lookahead (`(?=`)"),
            (".*(?<!-dlq)", "a lookbehind (`(?<!`)"),
            ("(?<=a)b", "a lookbehind (`(?<=`)"),
            ("(?>a|ab)c", "an atomic group"),
            ("(a)\\1", "a back-reference (`\\1`)"),
            ("(?<x>a)\\k<x>", "a back-reference (`\\k<…>`)"),
            ("\\Qa.b\\E", "a quotation"),
            ("a*+b", "a possessive quantifier (`*+`)"),
            ("a++", "a possessive quantifier (`++`)"),
            ("a?+", "a possessive quantifier (`?+`)"),
            ("a{2}+", "a possessive quantifier (`}+`)"),
            ("[a-z--b]", "`--` in a class"),
        ] {
            let why = topics_pattern(pattern).unwrap_err();
            assert!(why.contains(what), "{pattern}: {why}");
        }
        for pattern in ["a)", "a)|(b", "\\Z", "\\hx", "a{1000000}", "["] {
            let why = topics_pattern(pattern).unwrap_err();
            assert!(why.contains("no regular expression"), "{pattern}: {why}");
        }
        for fine in [
            "[+*?]+",
            "a\\++",
            "(?<name>a)",
            "(?i)A",
            "[a-z&&[^b]]+",
            "a+?",
            "a??b",
        ] {
            assert!(topics_pattern(fine).is_ok(), "{fine}: {:?}", topics_pattern(fine));
        }
    }
}
