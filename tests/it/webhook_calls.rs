//! Everything that may call the webhook, mixed by a seed: the test of it and the measurement under it send the same.

use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::json;

#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) body: String,
    pub(crate) token: Token,
    /// How it is answered.
    pub(crate) status: StatusCode,
}

/// The same numbers on each run: a mix that fails can be looked at again.
struct Numbers(u64);

impl Numbers {
    /// `SplitMix64`.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// Of a key's version; a later version has a later sequencer, whenever it arrives.
fn event(key: u64, version: u64) -> String {
    let name = "s3:ObjectCreated:Put";
    json!({
        "EventName": name,
        "Key": format!("clipstream/raw-uploads/{key}.mp4"),
        "Records": [{
            "eventVersion": "2.0",
            "eventSource": "minio:s3",
            "eventTime": "2026-11-21T02:03:04.123Z",
            "eventName": name,
            "s3": {
                "bucket": { "name": "clipstream", "arn": "arn:aws:s3:::clipstream" },
                "object": {
                    "key": format!("raw-uploads%2F{key}.mp4"), "size": 1_000 + key,
                    "eTag": format!("{key:016x}{version:016x}"), "contentType": "video/mp4",
                    "sequencer": format!("1879F0A1B2C3{version:04X}"),
                },
            },
        }],
    })
    .to_string()
}

/// Calls, and what they leave.
pub(crate) struct Mix {
    pub(crate) calls: Vec<Call>,
    /// Keys and versions that were announced, each by any number of calls in any order.
    pub(crate) objects: BTreeSet<(u64, u64)>,
    /// Bodies that are quarantined, as far as they are kept.
    pub(crate) unusable: BTreeSet<String>,
}

/// What a caller says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token {
    Right,
    Wrong,
    None,
}

/// So many calls in an order of their own: 70 of 100 announce one of few objects, which are thus told of again, in any
/// order, long after; the others are garbage, bodies without end, events of another kind, and callers without the token.
pub(crate) fn mix(calls: u64, seed: u64) -> Mix {
    let (count, keys) = (calls, calls * 15 / 100);
    let mut numbers = Numbers(seed);
    let (mut calls, mut objects, mut unusable) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for number in 0..count {
        let (key, version) = (numbers.below(keys), numbers.below(3));
        let call = |body, token, status| Call { body, token, status };
        let right = Token::Right;
        calls.push(match numbers.below(100) {
            0..70 => {
                objects.insert((key, version));
                call(event(key, version), right, StatusCode::OK)
            }
            70..80 => {
                let garbage = ["{", "[1, 2]", "\u{0}\u{1}", "null", "{\"Records\": 3}"];
                let body = format!(
                    "{}{}",
                    garbage[usize::try_from(key % 5).expect("small")],
                    " ".repeat(usize::try_from(version).expect("small"))
                );
                unusable.insert(body.clone());
                call(body, right, StatusCode::OK)
            }
            80..82 => {
                // Kept in part, by its beginning.
                let body = format!("{number}{}", "x".repeat(1_200_000));
                unusable.insert(body[..1024 * 1024].to_owned());
                call(body, right, StatusCode::OK)
            }
            82..85 => call(String::new(), right, StatusCode::OK),
            85..88 => {
                let body =
                    event(key, version).replace("s3:ObjectCreated:Put", "s3:ObjectRemoved:Delete");
                call(body, right, StatusCode::OK)
            }
            88..94 => call(event(key + keys, version), Token::None, StatusCode::UNAUTHORIZED),
            _ => call(event(key + keys, version), Token::Wrong, StatusCode::UNAUTHORIZED),
        });
    }
    Mix { calls, objects, unusable }
}
