//! What is put aside when the cluster goes, and what is not.

use super::*;
use crate::kafka::record::Aside;
use crate::metrics::Loads;

/// Keeps what is put aside.
#[derive(Default)]
struct Kept(Mutex<Vec<(u64, String)>>);

impl Aside for Kept {
    fn take(&self, record: Record, receipt: Receipt) {
        self.0.lock().unwrap().push((receipt.token, record.topic));
    }
}

impl Kept {
    fn tokens(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().map(|(token, _)| *token).collect()
    }
}

struct Offer<'a> {
    producer: &'a Producer,
    told: &'a Arc<Told>,
    kept: &'a Arc<Kept>,
}

impl Offer<'_> {
    fn record(&self, token: u64, key: &'static str, delivery: Delivery, goes: bool) {
        self.producer.submit(&mut vec![Submission {
            record: Record {
                topic: "orders".to_owned(),
                key: Some(key.into()),
                ..Record::default()
            },
            delivery,
            receipt: Receipt {
                recipient: Arc::clone(self.told) as Arc<dyn Recipient>,
                token,
            },
            label: "orders".into(),
            client: 0,
            aside: goes.then(|| Arc::clone(self.kept) as Arc<dyn Aside>),
        }]);
    }
}

#[tokio::test]
async fn what_may_go_goes_in_its_order_and_nothing_is_told_twice() {
    // Nobody answers, and nobody refuses: a port that is listened on and not taken from.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (producer, metrics) = producer(silent.local_addr().unwrap().to_string(), 100);
    let (told, kept) = (Arc::new(Told::default()), Arc::new(Kept::default()));
    let offer = Offer {
        producer: &producer,
        told: &told,
        kept: &kept,
    };
    let acked = Delivery::Acked {
        deadline: Instant::now() + PATIENCE * 10,
    };
    offer.record(1, "a", acked, true);
    offer.record(2, "b", acked, true);
    offer.record(3, "b", Delivery::Buffered, true);
    offer.record(4, "c", acked, false);
    offer.record(5, "a", acked, true);
    offer.record(
        6,
        "d",
        Delivery::Tracked {
            held_until: Instant::now() + PATIENCE * 10,
        },
        true,
    );
    assert_eq!(producer.outstanding(), 6);
    producer.shared.lock().down("gone".to_owned());
    // It counts as there until they are put aside, and what comes until then is behind them.
    assert!(producer.takes("orders"));
    offer.record(7, "a", acked, true);
    assert!(kept.tokens().is_empty());
    producer.shared.divert();
    assert!(!producer.takes("orders"));
    assert_eq!(kept.tokens(), [1, 5, 6, 7]);
    assert_eq!(kept.0.lock().unwrap()[0].1, "orders");
    // One whose sender was told just before.
    offer.record(8, "a", acked, true);
    assert_eq!(kept.tokens(), [1, 5, 6, 7, 8]);
    // Those that stay: a buffered one and what is of its key, and one that has nowhere to go.
    assert_eq!(producer.outstanding(), 3);
    producer.measure(&mut Loads::default());
    assert!(
        metrics
            .encode()
            .unwrap()
            .contains("sluice_held_records{cluster=\"main\",producer=\"default\"} 3")
    );
    assert_eq!(*told.0.lock().unwrap(), [(3, Outcome::Accepted)]);
    // A cluster that is back takes records again.
    let mut bag = Bag::default();
    producer.shared.lock().up(Instant::now(), &mut bag);
    bag.send();
    assert!(producer.takes("orders"));
    // At the end what has somewhere to go goes there, but not past the one that was answered.
    offer.record(9, "e", acked, true);
    assert_eq!(producer.close(), 3);
    assert_eq!(kept.tokens(), [1, 5, 6, 7, 8, 9]);
    assert_eq!(told.0.lock().unwrap().len(), 3);
}
