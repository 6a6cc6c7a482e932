//! Requests and answers byte by byte, and streams however they are cut.

use super::*;

#[test]
fn requests_are_written_as_the_protocol_says() {
    let frame = Request::handshake(-2, "me", "SCRAM-SHA-256").frame();
    let expected = b"\0\0\0\x1b\0\x11\0\x01\xff\xff\xff\xfe\0\x02me\0\x0dSCRAM-SHA-256";
    assert_eq!(frame, expected);
    let frame = Request::authenticate(-3, "", 1, "n,,").frame();
    assert_eq!(frame, b"\0\0\0\x11\0\x24\0\x01\xff\xff\xff\xfd\0\0\0\0\0\x03n,,");
    let frame = Request::api_versions(-1, "é").frame();
    assert_eq!(frame, b"\0\0\0\x0c\0\x12\0\0\xff\xff\xff\xff\0\x02\xc3\xa9");
}

#[test]
fn answers_are_read() {
    let request = Request::api_versions(-1, "");
    assert!(
        request
            .answer(b"\0\0\0\x01\0\0")
            .unwrap_err()
            .contains("another request")
    );
    assert!(request.answer(b"\0\0").is_err());
    let versions = |rows: &[(i16, i16, i16)]| {
        let mut bytes = vec![0, 0];
        bytes.extend((rows.len() as i32).to_be_bytes());
        for (a, b, c) in rows {
            [a, b, c].iter().for_each(|n| bytes.extend(n.to_be_bytes()));
        }
        Answer::new(&bytes).authenticate_version()
    };
    assert_eq!(versions(&[(0, 0, 9), (36, 0, 2)]), Ok(1));
    assert_eq!(versions(&[(36, 0, 0)]), Ok(0));
    assert!(versions(&[(36, 2, 3)]).unwrap_err().contains("1.1 or later"));
    assert!(versions(&[]).is_err());
    let error = Answer::new(b"\0\x23\0\0\0\0").authenticate_version();
    assert!(error.unwrap_err().contains("error 35"));

    let refused = Answer::new(b"\0\x21\0\0\0\x01\0\x05PLAIN")
        .handshake()
        .unwrap_err();
    assert_eq!(refused.code, Code::UnsupportedSASLMechanism);
    assert_eq!(refused.why, "it takes PLAIN");
    let refused = Answer::new(b"\0\x22\0\0\0\0").handshake().unwrap_err();
    assert_eq!(refused.code, Code::UnsupportedFeature);
    assert_eq!(refused.why, "it asks for no SASL there");
    assert_eq!(Answer::new(b"\0\0\0\0\0\0").handshake(), Ok(()));

    let good = b"\0\0\xff\xff\0\0\0\x01x\0\0\0\0\0\0\x03\xe8";
    let expected = |lifetime_ms| Authenticated {
        message: b"x".to_vec(),
        lifetime_ms,
    };
    assert_eq!(Answer::new(good).authenticate(1), Ok(expected(Some(1000))));
    assert_eq!(Answer::new(good).authenticate(0), Ok(expected(None)));
    let refused = Answer::new(b"\0\x3a\0\x02no\0\0\0\0")
        .authenticate(1)
        .unwrap_err();
    assert_eq!(
        (refused.code, refused.why.as_str()),
        (Code::SaslAuthenticationFailed, "no")
    );
}

#[test]
fn own_answers_are_taken_out_however_they_are_cut() {
    let frame = |correlation: i32, body: &[u8]| {
        let length = (body.len() as i32 + 4).to_be_bytes();
        [&length, &correlation.to_be_bytes(), body].concat()
    };
    let all = [
        frame(1, b"first"),
        frame(-1, b"own"),
        frame(2, b""),
        frame(-2, b""),
        frame(3, &[7; 300]),
    ];
    let (stream, theirs) = (all.concat(), [&*all[0], &all[2], &all[4]].concat());
    for size in 1..stream.len() {
        let (mut sieve, mut through, mut own) = (Sieve::default(), Vec::new(), Vec::new());
        let mut position = Position::default();
        for chunk in stream.chunks(size) {
            sieve.sift(chunk, &mut through, &mut own).unwrap();
            let mut rest = chunk;
            while !rest.is_empty() {
                let taken = position.advance(rest).unwrap();
                assert!(taken > 0);
                rest = &rest[taken..];
            }
        }
        assert!(position.is_between());
        assert_eq!(through, theirs, "{size}");
        assert_eq!(
            own,
            [b"\xff\xff\xff\xffown".to_vec(), b"\xff\xff\xff\xfe".to_vec()]
        );
    }
    let (mut through, mut own) = (Vec::new(), Vec::new());
    let mut sift = |bytes: &[u8]| Sieve::default().sift(bytes, &mut through, &mut own);
    assert!(sift(b"\0\0\0\x03\0\0\0\0").is_err());
    assert!(sift(b"\0\x01\0\x05\xff\0\0\0").unwrap_err().contains("too long"));
    assert!(Position::default().advance(b"\xff\0\0\0").is_err());
}

#[test]
fn a_position_stops_at_the_end_of_each_frame() {
    let mut position = Position::default();
    let bytes = b"\0\0\0\x02ab\0\0\0\0\0\0\0\x01c";
    assert_eq!(position.advance(&bytes[..3]), Ok(3));
    assert!(!position.is_between());
    assert_eq!(position.advance(&bytes[3..]), Ok(3));
    assert!(position.is_between());
    assert_eq!(position.advance(&bytes[6..]), Ok(4));
    assert!(position.is_between());
    assert_eq!(position.advance(&bytes[10..]), Ok(5));
    assert!(position.is_between());
}
