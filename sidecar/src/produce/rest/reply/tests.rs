use super::*;

fn outcome(what: &str) -> Outcome {
    match what {
        "stored" => Outcome::Stored {
            partition: 0,
            offset: 1,
        },
        "accepted" => Outcome::Accepted,
        code => {
            let class = class::ALL
                .into_iter()
                .find(|class| class::row_of(*class).code == code);
            Failure::new(class.unwrap(), "why").into()
        }
    }
}

/// 503 is "nothing stored": never said when anything is, or may be.
#[test]
fn many_records_have_one_status() {
    let rows: [(&[&str], u16); 10] = [
        (&["stored", "stored"], 200),
        (&["stored", "accepted"], 202),
        (&["accepted", "accepted"], 202),
        (&["stored", "cluster_unavailable"], 502),
        (&["cluster_unavailable", "accepted"], 502),
        (&["outcome_unknown", "stored"], 502),
        (&["cluster_unavailable", "outcome_unknown"], 504),
        (&["buffer_full", "cluster_unavailable"], 503),
        (&["unknown_topic", "unknown_topic"], 404),
        (&["not_authorised"], 403),
    ];
    for (outcomes, status) in rows {
        let topics = vec!["t".to_owned(); outcomes.len()];
        let response = many(&topics, outcomes.iter().copied().map(outcome).collect());
        assert_eq!(response.status().as_u16(), status, "{outcomes:?}");
        let retry = response.headers().contains_key(RETRY_AFTER);
        assert_eq!(retry, status == 503, "{outcomes:?}");
    }
}

#[test]
fn every_error_is_documented() {
    let text = include_str!("../../../../../docs/http-api.md");
    for class in class::ALL {
        let Row {
            status,
            code,
            retry_after,
            ..
        } = class::row_of(class);
        let retry = retry_after.map_or("", |_| ", with `Retry-After`");
        let row = format!("| {status}{retry} | `{code}` | ");
        assert!(text.contains(&row), "no row {row}");
    }
}
