//! The JSON of the query API.

use std::collections::BTreeMap;
use std::sync::Arc;

use paramedic_promql::number::parse_float;
use paramedic_promql::{Annotations, Answer, Histogram, InstantSample, Label, Labels, MatrixSeries, Point, Value};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::histogram::{HistogramJson, to_histogram};
use super::{Reply, words};
use crate::error::EngineError;

/// Remarks that are kept of one answer.
const REMARKS_MAX: usize = 20;

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default)]
    status: String,
    #[serde(default, borrow)]
    data: Option<Data<'a>>,
    #[serde(default, rename = "errorType")]
    error_type: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    warnings: Vec<String>,
    #[serde(default)]
    infos: Vec<String>,
}

#[derive(Deserialize)]
struct Data<'a> {
    #[serde(rename = "resultType")]
    result_type: String,
    #[serde(borrow)]
    result: &'a RawValue,
}

#[derive(Deserialize)]
struct VectorJson {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    value: Option<(f64, String)>,
    histogram: Option<(f64, HistogramJson)>,
}

#[derive(Deserialize)]
struct MatrixJson {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histograms: Vec<(f64, HistogramJson)>,
}

/// Reads an answer of the store.
pub(super) fn read(status: u16, body: &[u8]) -> Result<Reply, EngineError> {
    let envelope: Envelope<'_> = match serde_json::from_slice(body) {
        Ok(envelope) => envelope,
        Err(err) if status == 200 => return Err(EngineError::Answer(words(&err.to_string()))),
        Err(_) => return Err(EngineError::Status { status, text: words(&String::from_utf8_lossy(&body[..body.len().min(1_000)])) }),
    };
    if envelope.status != "success" || status != 200 {
        return Err(failure(status, &envelope));
    }
    let data = envelope.data.ok_or_else(|| EngineError::Answer("there is no data in it".to_owned()))?;
    let value = value(&data.result_type, data.result.get())?;
    let remarks = |texts: Vec<String>| texts.iter().take(REMARKS_MAX).map(|text| words(text)).collect();
    let answer = Answer { value, annotations: Annotations::default(), samples_peak: 0 };
    Ok(Reply { answer, warnings: remarks(envelope.warnings), infos: remarks(envelope.infos) })
}

fn failure(status: u16, envelope: &Envelope<'_>) -> EngineError {
    let text = words(&envelope.error);
    match (envelope.error_type.as_str(), status) {
        ("bad_data", _) | ("", 400) => EngineError::BadQuery(text),
        // A time-out there is one here: asking again later may help.
        ("timeout" | "canceled" | "unavailable", _) => EngineError::Status { status: 503, text },
        ("execution", _) => EngineError::Execution(text),
        // VictoriaMetrics says its status as the type, and 422 for whatever it cannot evaluate.
        (_, 400 | 422) => EngineError::BadQuery(text),
        _ => EngineError::Status { status, text },
    }
}

fn value(kind: &str, json: &str) -> Result<Value, EngineError> {
    let wrong = |err: serde_json::Error| EngineError::Answer(words(&err.to_string()));
    match kind {
        "vector" => {
            let all: Vec<VectorJson> = serde_json::from_str(json).map_err(wrong)?;
            all.into_iter().map(instant).collect::<Result<_, _>>().map(Value::Vector)
        }
        "matrix" => {
            let all: Vec<MatrixJson> = serde_json::from_str(json).map_err(wrong)?;
            all.into_iter().map(series).collect::<Result<_, _>>().map(Value::Matrix)
        }
        "scalar" => {
            let (_, text): (f64, String) = serde_json::from_str(json).map_err(wrong)?;
            float(&text).map(Value::Scalar)
        }
        "string" => {
            let (_, text): (f64, String) = serde_json::from_str(json).map_err(wrong)?;
            Ok(Value::String(text))
        }
        other => Err(EngineError::Answer(format!("results of type {:?} are not known", words(other)))),
    }
}

pub(super) fn float(text: &str) -> Result<f64, EngineError> {
    parse_float(text).ok_or_else(|| EngineError::Answer(format!("{:?} is not a number", words(text))))
}

fn labels(metric: BTreeMap<String, String>) -> Labels {
    metric.into_iter().map(|(name, value)| Label { name: name.into(), value: value.into() }).collect()
}

fn instant(json: VectorJson) -> Result<InstantSample, EngineError> {
    let value = match (json.value, json.histogram) {
        (_, Some((_, histogram))) => Point::Histogram(Arc::new(to_histogram(&histogram)?)),
        (Some((_, text)), None) => Point::Float(float(&text)?),
        (None, None) => return Err(EngineError::Answer("a sample has no value".to_owned())),
    };
    Ok(InstantSample { labels: labels(json.metric), value })
}

fn millis(seconds: f64) -> i64 {
    (seconds * 1_000.0).round() as i64
}

fn series(json: MatrixJson) -> Result<MatrixSeries, EngineError> {
    let floats = json.values.iter().map(|(time, text)| Ok((millis(*time), float(text)?)));
    let histograms = json
        .histograms
        .iter()
        .map(|(time, histogram)| -> Result<(i64, Arc<Histogram>), EngineError> { Ok((millis(*time), Arc::new(to_histogram(histogram)?))) });
    Ok(MatrixSeries {
        labels: labels(json.metric),
        floats: floats.collect::<Result<_, EngineError>>()?,
        histograms: histograms.collect::<Result<_, _>>()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str) -> Result<Reply, EngineError> {
        read(status, body.as_bytes())
    }

    #[test]
    fn every_type_of_result_is_read() {
        let vector = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"__name__":"up","job":"a"},"value":[1700000000.5,"1"]},
            {"metric":{},"value":[1,"NaN"]}]},"warnings":["careful"],"infos":["well"]}"#;
        let reply = check(200, vector).unwrap();
        assert_eq!((&*reply.warnings[0], &*reply.infos[0]), ("careful", "well"));
        let Value::Vector(samples) = reply.answer.value else { panic!("not a vector") };
        assert_eq!(samples[0].labels.to_string(), r#"{__name__="up", job="a"}"#);
        assert_eq!(samples[0].value, Point::Float(1.0));
        assert!(matches!(samples[1].value, Point::Float(value) if value.is_nan()));

        let matrix =
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"a":"b"},"values":[[1.001,"+Inf"],[2,"-1e3"]]}]}}"#;
        let Value::Matrix(series) = check(200, matrix).unwrap().answer.value else { panic!("not a matrix") };
        assert_eq!(series[0].floats, [(1_001, f64::INFINITY), (2_000, -1_000.0)]);

        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2.5"]}}"#;
        assert!(matches!(check(200, scalar).unwrap().answer.value, Value::Scalar(2.5)));
        let string = r#"{"status":"success","data":{"resultType":"string","result":[1,"two"]}}"#;
        assert!(matches!(check(200, string).unwrap().answer.value, Value::String(text) if text == "two"));
    }

    #[test]
    fn failures_say_whether_asking_again_helps() {
        let error = |kind: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":"why"}}"#);
        for (status, body, expect, temporary) in [
            (400, error("bad_data"), EngineError::BadQuery("why".into()), false),
            (422, error("execution"), EngineError::Execution("why".into()), false),
            (422, error("422"), EngineError::BadQuery("why".into()), false),
            (503, error("timeout"), EngineError::Status { status: 503, text: "why".into() }, true),
            (500, error("internal"), EngineError::Status { status: 500, text: "why".into() }, true),
            (401, "no".to_owned(), EngineError::Status { status: 401, text: "no".into() }, false),
            (502, "<html>".to_owned(), EngineError::Status { status: 502, text: "<html>".into() }, true),
        ] {
            let err = check(status, &body).unwrap_err();
            assert_eq!((err.is_temporary(), err), (temporary, expect));
        }
        for body in ["", "{}", "[]", "null", r#"{"status":"success"}"#, r#"{"status":"success","data":{"resultType":"x","result":[]}}"#] {
            assert!(check(200, body).is_err(), "{body}");
        }
    }
}
