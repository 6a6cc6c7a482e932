//! Other implementations see what the filter sees: the fuzz targets, on input that is nearly what they parse.
#![allow(clippy::expect_used, reason = "helpers of tests")]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

fn check(target: &str, data: &[u8]) {
    sluice_fuzz::target(target).expect("a target")(data);
}

/// Some of these pieces, one behind the other.
fn pieces(pieces: &'static [&'static [u8]], most: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(select(pieces), 0..most).prop_map(|pieces| pieces.concat())
}

const JSON: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\"",
    b"\"a\"",
    b"\"a\":",
    b"\"\\ud83d\\ude00\"",
    b"\"\\ud800\"",
    b"\\",
    b"1",
    b"-0",
    b"1e400",
    b"12345678901234567890",
    b"0.5e-3",
    b"true",
    b"null",
    b" ",
    b"\n",
    b"\t",
    b"\x01",
    b"\xc3\xa9",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\"~/\":",
    b"+",
    b"NaN",
    b"0x1",
    b"//",
];

const STRING: &[&[u8]] = &[
    b"plain text of some length",
    b"a",
    b"\\",
    b"\\n",
    b"\\\"",
    b"\"",
    b"\\u0",
    b"\\u00e9",
    b"\\uD83D",
    b"\\ude00",
    b"\x1f",
    b"\x7f",
    b"\xc3\xa9",
    b"\xc3",
    b"/",
];

const FORM: &[&[u8]] = &[
    b"a",
    b"b",
    b"=",
    b"&",
    b"+",
    b"%",
    b"%4",
    b"%41",
    b"%zz",
    b"%c3%a9",
    b"%ff",
    b"\xff",
    b"\xc3\xa9",
    b";",
    b"%00",
    b"%26",
];

const TYPE: &[&[u8]] = &[
    b"multipart/form-data",
    b"text/plain",
    b";",
    b"; ",
    b"a=",
    b"boundary=",
    b"Charset=UTF-8",
    b"\"",
    b"\\",
    b"x y",
    b"x",
    b" ",
    b"\t",
    b"=",
    b"\xc3\xa9",
];

const MULTIPART: &[&[u8]] = &[
    b"--b\r\n",
    b"--b--\r\n",
    b"--b",
    b"--",
    b"\r\n",
    b"\n",
    b"\r",
    b"Content-Disposition: form-data; name=a\r\n\r\n",
    b"Content-Disposition: form-data; name=\"b\"; filename=\"x.txt\"\r\n",
    b"Content-Type: text/plain\r\n",
    b"; filename=\"",
    b"Content-Disposition: attachment\r\n",
    b"filename*=UTF-8''%41",
    b" ",
    b"v",
    b"\xff",
    b"\0",
    b":",
    b"\"",
    b"\\",
    b"\t",
    b"--b \t\r\n",
    b"\r\n--b--\t",
];

const RECORDS: &[&[u8]] = &[
    b"{\"value\":\"v\"}",
    b"{\"json\":[1]}",
    b"{\"value\":null,\"key\":\"k\"}",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b"\n",
    b"\"value\":",
    b"\"key\":",
    b"\"json\":",
    b"\"headers\":",
    b"{\"name\":\"a\",\"value\":\"b\"}",
    b"{\"base64\":\"AAE=\"}",
    b"\"v\"",
    b"null",
    b"1",
    b"\"partition\":",
    b" ",
    b"\x0b",
];

const TARGET: &[&[u8]] = &[
    b"http",
    b"https",
    b"://",
    b"//",
    b"/",
    b"\\",
    b"@",
    b":",
    b":80",
    b"[",
    b"]",
    b"::ffff:",
    b"::1",
    b"169.254.169.254",
    b"0xa9fea9fe",
    b"2852039166",
    b"0251.",
    b"127.1",
    b"localhost",
    b".",
    b"?",
    b"#",
    b"%2e",
    "\u{e9}".as_bytes(),
    "\u{3002}".as_bytes(),
    "\u{ff11}".as_bytes(),
    b"\t",
    b" ",
];

const ANSWER: &[&[u8]] = &[
    b"1",
    b"99999999999999999999",
    b"Thu, ",
    b"01 Jan 1970 ",
    b"Jan",
    b"00:00:07",
    b" GMT",
    b"Thursday, 01-Jan-70 ",
    b" ",
    b"\t",
    b"-",
    b"{\"status\":",
    b"\"SUCCESS\"",
    b"\"RETRY\"",
    b"\"DROP\"",
    b"null",
    b"{}",
    b"}",
    b"\xff",
];

/// A field or file: its name, filename, type and content.
type Field = (String, Option<String>, Option<&'static str>, Vec<u8>);

fn field() -> impl Strategy<Value = Field> {
    let content = prop_oneof![
        any::<Vec<u8>>(),
        pieces(
            &[
                b"-",
                b"--",
                b"bound",
                b"--bound",
                b"--boundx",
                b"\r\n",
                b"\r\n\r\n",
                b"\n",
                b"\r",
                b"x",
                b"\xff"
            ],
            12
        ),
    ];
    (
        "[a-z \\[\\]\u{e9};=]{1,8}",
        proptest::option::of("[a-z .;=\u{e9}]{0,8}"),
        proptest::option::of(select(vec!["text/plain", "image/png; x=\"y\"", ""])),
        content,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn json_is_what_serde_json_takes_for_it(text in pieces(JSON, 16), number in "[-+.eE019]{1,6}", inside in pieces(STRING, 6)) {
        check("json", &text);
        check("json", format!("[{number}]").as_bytes());
        check("json", &[b"{\"a\":\"", &inside[..], b"\"}"].concat());
    }

    #[test]
    fn forms_are_those_of_the_url_standard(text in pieces(FORM, 16), bytes in any::<Vec<u8>>()) {
        check("form", &text);
        check("form", &bytes);
    }

    #[test]
    fn parameters_are_those_of_mime(text in pieces(TYPE, 10)) {
        check("media_type", &text);
    }

    #[test]
    fn multipart_bodies_are_taken_apart_as_multer_does(body in pieces(MULTIPART, 16)) {
        check("multipart", &[b"multipart/form-data; boundary=b\n", &body[..]].concat());
    }

    #[test]
    fn records_as_json_are_what_the_documentation_says(body in pieces(RECORDS, 16)) {
        check("rest_records", &body);
    }

    #[test]
    fn targets_lead_where_the_url_standard_says(text in pieces(TARGET, 10), host in pieces(TARGET, 5)) {
        check("webhook_target", &text);
        check("webhook_target", &[b"http://", &host[..], b"/"].concat());
    }

    #[test]
    fn answers_are_read_or_not(text in pieces(ANSWER, 8)) {
        check("webhook_answer", &text);
    }

    #[test]
    fn what_a_browser_sends_is_taken_apart_as_multer_does(fields in vec(field(), 0..5), cut in any::<proptest::sample::Index>()) {
        let mut data = b"multipart/form-data; boundary=bound\n".to_vec();
        let start = data.len();
        for (name, filename, content_type, content) in &fields {
            let filename = filename.as_ref().map(|f| format!("; filename=\"{f}\"")).unwrap_or_default();
            let content_type = content_type.map(|t| format!("Content-Type: {t}\r\n")).unwrap_or_default();
            data.extend_from_slice(
                format!("--bound\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n{content_type}\r\n").as_bytes(),
            );
            data.extend_from_slice(content);
            data.extend_from_slice(b"\r\n");
        }
        data.extend_from_slice(b"--bound--\r\n");
        check("multipart", &data);
        // And cut off anywhere.
        check("multipart", &data[..start + cut.index(data.len() - start)]);
    }
}
