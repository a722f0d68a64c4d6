//! Keys, field names, values and event times, byte by byte.

use gristmill::model::feast::{FeastKey, decode, decode_time, encode, encode_time, field, redis_key};
use gristmill::model::{FeastType, Field, Kind, OwnedValue, Scalar, Timestamp};
use serde_json::Value;

use crate::{hex, json_case, unhex};

#[test]
fn entity_keys_are_feasts() {
    let vectors = json_case("entity_keys.json");
    for vector in vectors["vectors"].as_array().unwrap() {
        let blobs: Vec<Vec<u8>> = vector["entity_key"].as_array().unwrap().iter().map(|part| blob(&part["value"])).collect();
        let parts = vector["entity_key"].as_array().unwrap().iter().zip(&blobs).map(|(part, blob)| {
            let number = || part["value"].as_i64().unwrap();
            let value = match part["value_field"].as_str().unwrap() {
                "int64_val" => FeastKey::Int64(number()),
                "int32_val" => FeastKey::Int32(number() as i32),
                "unix_timestamp_val" => FeastKey::UnixTimestamp(number()),
                "string_val" => FeastKey::String(part["value"].as_str().unwrap()),
                "bytes_val" => FeastKey::Bytes(blob),
                other => panic!("{other}"),
            };
            (part["join_key"].as_str().unwrap(), value)
        });
        let key = redis_key(vector["project"].as_str().unwrap(), &parts.collect::<Vec<_>>());
        assert_eq!(hex(&key), vector["redis_key_v3_hex"], "{}", vector["name"]);
    }
    assert!(vectors["vectors"].as_array().unwrap().len() >= 19);
}

/// The bytes that a value of a key stands for, if it is a text of hexadecimal digits.
fn blob(value: &Value) -> Vec<u8> {
    let is_hex = value.as_str().is_some_and(|text| text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit()));
    if is_hex { unhex(value) } else { Vec::new() }
}

#[test]
fn field_names_are_feasts() {
    let vectors = json_case("field_hashes.json");
    for vector in vectors["vectors"].as_array().unwrap() {
        let name = field(vector["ref"].as_str().unwrap());
        assert_eq!(hex(&name), vector["field_hex"], "{vector}");
        assert_eq!(u32::from_le_bytes(name), vector["mmh3_u32"].as_u64().unwrap() as u32, "{vector}");
    }
}

#[test]
fn event_times_are_feasts() {
    let vectors = json_case("timestamps.json");
    for vector in vectors["vectors"].as_array().unwrap() {
        let time = Timestamp::parse(vector["iso"].as_str().unwrap()).unwrap();
        assert_eq!(hex(&encode_time(time)), vector["proto_hex"], "{vector}");
        assert_eq!(decode_time(&unhex(&vector["proto_hex"])), Some(time), "{vector}");
    }
    assert_eq!(decode_time(b"\x08"), None, "cut short");
}

#[test]
fn values_are_feasts() {
    let vectors = json_case("value_protos.json");
    for vector in vectors["vectors"].as_array().unwrap() {
        let (name, bytes) = (vector["oneof_field"].as_str().unwrap(), unhex(&vector["proto_hex"]));
        let Some((feast_type, is_alike)) = type_of(name) else {
            assert_eq!(decode(&bytes, &Field::plain("x", Kind::Integer, true)), None, "{vector}");
            if name == "unset" {
                let mut nothing = Vec::new();
                encode(&mut nothing, None, None);
                assert_eq!(nothing, bytes);
            }
            continue;
        };
        let field = Field::plain("x", feast_type.kind(), true);
        let Some(value) = decode(&bytes, &field) else {
            // The least number of seconds is what Feast writes for a moment that is none.
            assert_eq!(vector["value"].as_i64(), Some(i64::MIN), "{vector} is not read");
            continue;
        };
        // NaN is not equal to itself, but is shown alike.
        assert_eq!(format!("{value:?}"), format!("{:?}", expected(feast_type, &vector["value"])), "{vector}");
        let mut written = Vec::new();
        encode(&mut written, Some(value.value()), Some(feast_type));
        assert!(!is_alike || hex(&written) == vector["proto_hex"], "{vector}: {}", hex(&written));
        for end in 0..bytes.len() {
            // What is cut short is no value, or another one; it is never a panic.
            let _ = decode(&bytes[..end], &field);
        }
    }
}

/// The type of a field of `feast.types.Value`, and whether values of that type are written into that field.
fn type_of(name: &str) -> Option<(FeastType, bool)> {
    let (scalar, list) = match name.strip_suffix("_list_val").or(name.strip_suffix("_set_val")) {
        Some(scalar) => (scalar, true),
        None => (name.strip_suffix("_val")?, false),
    };
    let (scalar, alike) = match scalar {
        "bytes" => (Scalar::Bytes, true),
        "string" => (Scalar::String, true),
        "int32" => (Scalar::Int32, true),
        "int64" => (Scalar::Int64, true),
        "double" => (Scalar::Float64, true),
        "float" => (Scalar::Float32, true),
        "bool" => (Scalar::Bool, true),
        "unix_timestamp" => (Scalar::UnixTimestamp, true),
        "json" | "uuid" | "decimal" => (Scalar::String, false),
        _ => return None,
    };
    Some((FeastType { scalar, is_list: list }, alike && !name.ends_with("_set_val")))
}

fn expected(feast_type: FeastType, value: &Value) -> OwnedValue<'static> {
    if feast_type.is_list {
        let mut packed = Vec::new();
        let scalar = FeastType { is_list: false, ..feast_type };
        value.as_array().unwrap().iter().for_each(|item| expected(scalar, item).value().pack(&mut packed));
        return OwnedValue::List(feast_type.scalar.kind(), packed);
    }
    let float = || match value.as_str() {
        Some("nan") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        _ => value.as_f64().unwrap(),
    };
    match feast_type.scalar {
        Scalar::Bytes => OwnedValue::Bytes(unhex(&value["bytes_hex"]).into()),
        Scalar::String => OwnedValue::Text(value.as_str().unwrap().to_owned().into()),
        Scalar::Int32 | Scalar::Int64 => OwnedValue::Integer(value.as_i64().unwrap()),
        Scalar::Float64 | Scalar::Float32 => OwnedValue::Float(float()),
        Scalar::Bool => OwnedValue::Boolean(value.as_bool().unwrap()),
        Scalar::UnixTimestamp => OwnedValue::Timestamp(Timestamp(value.as_i64().unwrap().saturating_mul(1_000_000))),
    }
}
