use proptest::prelude::*;

use super::*;

/// Parts as `name=content`, files as `name(filename;type)=content`; or the fault.
fn parsed(content_type: &str, body: &[u8]) -> String {
    let show = |part: &Part<'_>| {
        let file = part.filename.as_ref().map(|filename| {
            let content_type = part
                .content_type
                .map_or("-".into(), |t| t.escape_ascii().to_string());
            format!("({};{content_type})", filename.escape_ascii())
        });
        format!(
            "{}{}={}",
            part.name.escape_ascii(),
            file.unwrap_or_default(),
            part.content.escape_ascii()
        )
    };
    match parts(MediaType::new(content_type.as_bytes()), body) {
        Ok(parts) => parts.iter().map(show).collect::<Vec<_>>().join("|"),
        Err(fault) => format!("! {fault}"),
    }
}

const TYPE: &str = "multipart/form-data; boundary=b";

fn check(body: &str, expected: &str) {
    assert_eq!(parsed(TYPE, body.as_bytes()), expected, "{body:?}");
}

#[test]
fn fields_and_files_come_in_order() {
    check(
        "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\n\
         content-disposition:form-data;name=f;filename=\"x.txt\"\r\nContent-Type: text/plain\r\n\r\nline\r\n\r\n\r\n--b--\r\n",
        r"a=1|f(x.txt;text/plain)=line\r\n\r\n",
    );
}

#[test]
fn the_boundary_comes_quoted_or_not_and_under_any_case() {
    let body = b"--a b\r\nContent-Disposition: form-data; name=n\r\n\r\nv\r\n--a b--";
    for content_type in [
        "multipart/form-data; boundary=\"a b\"",
        "Multipart/Form-Data;charset=utf-8; Boundary=a b",
        "multipart/form-data; BOUNDARY = \"a b\" ; x=y",
    ] {
        assert_eq!(parsed(content_type, body), "n=v", "{content_type}");
    }
}

#[test]
fn a_boundary_must_be_named_and_occur() {
    for content_type in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary",
    ] {
        assert_eq!(
            parsed(content_type, b"--b--"),
            "! its content-type has no boundary parameter"
        );
    }
    check(
        "nothing",
        "! the boundary that its content-type names does not occur in it",
    );
    check(
        "x--b--",
        "! the boundary that its content-type names does not occur in it",
    );
}

#[test]
fn names_come_quoted_or_not() {
    for (disposition, expected) in [
        ("form-data; name=\"a;b=c\"", "a;b=c=v"),
        ("form-data; name=a", "a=v"),
        ("Form-Data; NAME=\"A\"", "A=v"),
        (r#"form-data; name="q\"q""#, "q\\\"q=v"),
        ("form-data; name=\"é\"", r"\xc3\xa9=v"),
        ("form-data; name=f; filename=\"\"", "f(;-)=v"),
        (
            r#"form-data; name=f; filename="C:\dir\x.txt""#,
            r"f(C:\\dir\\x.txt;-)=v",
        ),
        (
            "form-data; name=f; filename*=UTF-8''na%C3%AFve.txt",
            r"f(na\xc3\xafve.txt;-)=v",
        ),
        ("form-data; name=f; filename=a; filename*=UTF-8''b", "f(a;-)=v"),
        ("form-data;\r\n\tname=folded;\r\n filename=x", "folded(x;-)=v"),
    ] {
        check(
            &format!("--b\r\nContent-Disposition: {disposition}\r\n\r\nv\r\n--b--"),
            expected,
        );
    }
}

#[test]
fn parts_without_a_name_are_left_out() {
    for headers in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Disposition: form-data\r\n",
        "Content-Disposition: form-data; name=\"\"\r\n",
        "Content-Disposition: attachment; name=a\r\n",
    ] {
        check(&format!("--b\r\n{headers}\r\nv\r\n--b--"), "");
    }
}

#[test]
fn preamble_and_epilogue_are_skipped() {
    check(
        "pre\r\n--bx\r\n--b\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n--b-- \t\r\nepilogue\r\n--b\r\nnot a part",
        "a=v",
    );
    check(
        "\r\n--b\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n--b--",
        "a=v",
    );
}

#[test]
fn bare_line_feeds_are_line_breaks() {
    check(
        "--b\nContent-Disposition: form-data; name=a\n\nv\n\n--b--\n",
        "a=v\\n",
    );
}

#[test]
fn what_only_looks_like_a_boundary_is_content() {
    check(
        "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n--bb\r\nx--b\r\n --b\r\n--b-\r\n--b\rx\r\n--b--",
        r"a=--bb\r\nx--b\r\n --b\r\n--b-\r\n--b\rx",
    );
}

#[test]
fn empty_contents_and_no_parts_at_all_are_fine() {
    check("--b--", "");
    check("--b--\r\n", "");
    check("--b\r\n--b--", "");
    check(
        "--b\r\nContent-Disposition: form-data; name=a\r\n\r\n\r\n--b--",
        "a=",
    );
    check("--b\r\nContent-Disposition: form-data; name=a\r\n\r\n--b--", "a=");
    check("--b\r\nContent-Disposition: form-data; name=a\r\n--b--", "a=");
}

#[test]
fn a_body_without_its_closing_boundary_was_cut_off() {
    let body = "--b\r\nContent-Disposition: form-data; name=a\r\n\r\nv\r\n--b--\r\n";
    let missing = "! the closing boundary is missing after the boundary at byte 0: the body was cut off";
    // From the first whole boundary to the last byte that the closing one needs.
    for end in 3..body.find("--b--").unwrap() + 5 {
        let shown = parsed(TYPE, &body.as_bytes()[..end]);
        assert!(shown.starts_with("! the "), "{end}: {shown}");
        if (5..body.find("--b--").unwrap()).contains(&end) {
            assert_eq!(shown, missing, "{end}");
        }
    }
    check(
        "--b\r\n\r\n1\r\n--b\r\n\r\n2",
        "! the closing boundary is missing after the boundary at byte 10: the body was cut off",
    );
}

#[test]
fn a_header_line_without_a_colon_is_named() {
    check(
        "--b\r\n\r\n\r\n--b\r\nContent-Disposition: form-data; name=a\r\nbroken\r\n\r\nv\r\n--b--",
        "! part 2 has a header line without a colon at byte 54",
    );
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_a_panic(pieces in proptest::collection::vec(proptest::sample::select(vec![
        &b"--b"[..], b"--b--", b"\r\n", b"\n", b"\r", b"Content-Disposition: form-data; name=a", b"; filename=\"", b" ", b":", b"\"", b"\\", b"v", b"\xff",
    ]), 0..20), bytes in any::<Vec<u8>>()) {
        for body in [pieces.concat(), bytes] {
            let media = MediaType::new(TYPE.as_bytes());
            if let Ok(parts) = parts(media, &body) {
                prop_assert!(parts.iter().map(|p| p.content.len()).sum::<usize>() <= body.len());
            }
        }
    }

    #[test]
    fn what_was_composed_comes_apart(fields in proptest::collection::vec(("[a-z]{1,5}", proptest::collection::vec(proptest::sample::select(vec![b'-', b'b', b'\r', b'\n', 0, 0xff]), 0..12)), 0..6)) {
        // A boundary that no content holds.
        let mut body = Vec::new();
        for (name, content) in &fields {
            body.extend_from_slice(format!("--bound\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").as_bytes());
            body.extend_from_slice(content);
            body.extend_from_slice(b"\r\n");
        }
        body.extend_from_slice(b"--bound--\r\n");
        let parsed = parts(MediaType::new(b"multipart/form-data; boundary=bound"), &body).unwrap();
        let parsed = parsed.iter().map(|p| (String::from_utf8_lossy(&p.name).into_owned(), p.content.to_vec())).collect::<Vec<_>>();
        prop_assert_eq!(parsed, fields);
    }
}
