//! API Gateway's metric `Count` in `CloudWatch`, the number of requests: the query, its response, and the output of `aws
//! cloudwatch get-metric-data` and `get-metric-statistics`.
//!
//! `CloudWatch` keeps sums of whole periods, so a window is counted exactly only when it begins and ends with one.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::cli::audit::reconcile::Window;
use crate::destination::message::AwsCall;
use crate::hit::event::format_iso;

/// The dimensions that name an API and a part of it: `ApiName` and `Stage` of a REST API, `ApiId` of an HTTP API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dimensions(Vec<(String, String)>);

/// The dimensions that API Gateway counts by (API Gateway developer guide, "Amazon API Gateway dimensions and metrics").
const KNOWN: [&str; 5] = ["ApiName", "ApiId", "Stage", "Method", "Resource"];

impl FromStr for Dimensions {
    type Err = String;

    /// Parses `ApiName=NAME,Stage=STAGE`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "give the API's dimensions, as in `ApiName=pixel,Stage=prod` or `ApiId=a1b2c3`".to_owned();
        let mut dimensions: Vec<(String, String)> = Vec::new();
        for part in text.split(',') {
            let (name, value) = part.split_once('=').ok_or_else(wrong)?;
            let twice = dimensions.iter().any(|(known, _)| known == name);
            if !KNOWN.contains(&name) || value.is_empty() || twice {
                return Err(wrong());
            }
            dimensions.push((name.to_owned(), value.to_owned()));
        }
        let has = |name: &str| dimensions.iter().any(|(known, _)| known == name);
        if has("ApiName") == has("ApiId") {
            return Err(wrong());
        }
        Ok(Self(dimensions))
    }
}

impl fmt::Display for Dimensions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        formatter.write_str(&parts.join(","))
    }
}

/// Returns the shortest period, in seconds, for which `CloudWatch` still has data of a window: minutes for 15 days, five
/// minutes for 63, hours for 455.
///
/// # Errors
///
/// A message if the window does not begin and end with such a period, or is older than what is kept.
pub fn period(window: &Window, now: DateTime<Utc>) -> Result<i64, String> {
    let age = now - window.from;
    let kept = [(15, 60, "a minute"), (63, 300, "five minutes"), (455, 3_600, "an hour")];
    let Some((days, seconds, name)) = kept.into_iter().find(|(days, ..)| age < TimeDelta::days(*days)) else {
        return Err("CloudWatch keeps counts for 455 days; give a later `--from`".to_owned());
    };
    let whole = |time: DateTime<Utc>| time.timestamp_millis() % (seconds * 1_000) == 0;
    for (option, time) in [("--from", window.from), ("--to", window.to)] {
        if !whole(time) {
            let kept = if days == 15 { "" } else { " of that age" };
            return Err(format!(
                "`{option}` ({}) is in the middle of {name}, by which CloudWatch keeps counts{kept}; give the begin of one",
                format_iso(time)
            ));
        }
    }
    Ok(seconds)
}

/// Builds the request for the counts of a window, period by period.
pub fn question(dimensions: &Dimensions, window: &Window, period: i64, next: Option<&str>) -> AwsCall {
    let dimensions: Vec<_> = dimensions
        .0
        .iter()
        .map(|(name, value)| json!({"Name": name, "Value": value}))
        .collect();
    // The statistic for this metric, according to the developer guide of API Gateway.
    let stat = json!({
        "Metric": {"Namespace": "AWS/ApiGateway", "MetricName": "Count", "Dimensions": dimensions},
        "Period": period,
        "Stat": "SampleCount",
    });
    let mut body = json!({
        "StartTime": window.from.timestamp(),
        "EndTime": window.to.timestamp(),
        "MetricDataQueries": [{"Id": "count", "MetricStat": stat}],
    });
    if let Some(next) = next {
        body["NextToken"] = next.into();
    }
    AwsCall {
        target: "GraniteServiceVersion20100801.GetMetricData",
        content_type: "application/x-amz-json-1.0",
        body: body.to_string().into_bytes(),
    }
}

/// The requests counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// The number of requests.
    pub requests: u64,
    /// The number of periods with requests.
    pub periods: u64,
    /// The number of periods outside the window, which are left out.
    pub outside: u64,
    /// The token of the next page of `CloudWatch`.
    pub next: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Data {
    metric_data_results: Vec<Series>,
    #[serde(default)]
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Series {
    #[serde(default)]
    id: String,
    #[serde(default)]
    timestamps: Vec<Value>,
    #[serde(default)]
    values: Vec<f64>,
    #[serde(default)]
    status_code: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Statistics {
    label: String,
    datapoints: Vec<Datapoint>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Datapoint {
    timestamp: Value,
    #[serde(default)]
    sum: Option<f64>,
    #[serde(default)]
    sample_count: Option<f64>,
}

impl Counted {
    /// Adds a response of `CloudWatch`, or printed output of its commands, to the count. May be called for several.
    ///
    /// # Errors
    ///
    /// A message if the text is not such output, is about several metrics, or is incomplete.
    pub fn add(&mut self, text: &str, window: &Window) -> Result<(), String> {
        let mut found = false;
        for document in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
            let document = document.map_err(|_| NOT_COUNTS.to_owned())?;
            self.add_document(document, window)?;
            found = true;
        }
        if found { Ok(()) } else { Err(NOT_COUNTS.to_owned()) }
    }

    fn add_document(&mut self, document: Value, window: &Window) -> Result<(), String> {
        if document.get("Datapoints").is_some() {
            let statistics: Statistics = serde_json::from_value(document).map_err(|_| NOT_COUNTS.to_owned())?;
            if statistics.label != "Count" {
                let label = crate::terminal::printable(&statistics.label, 60);
                return Err(format!("it is about the metric `{label}`; export the metric `Count`"));
            }
            return statistics.datapoints.iter().try_for_each(|point| {
                let value = point.sample_count.or(point.sum);
                let value =
                    value.ok_or("it has neither sums nor sample counts; ask with `--statistics SampleCount`")?;
                self.point(&point.timestamp, value, window)
            });
        }
        let data: Data = serde_json::from_value(document).map_err(|_| NOT_COUNTS.to_owned())?;
        if data.metric_data_results.len() > 1 {
            let ids: Vec<_> = data
                .metric_data_results
                .iter()
                .map(|series| series.id.as_str())
                .collect();
            let ids = crate::terminal::printable(&ids.join("`, `"), 200);
            return Err(format!(
                "it is about several metrics (`{ids}`); export the metric `Count` alone"
            ));
        }
        self.next = data.next_token;
        for series in data.metric_data_results {
            let status = series.status_code.as_deref().unwrap_or("Complete");
            let goes_on = status == "PartialData" && self.next.is_some();
            if status != "Complete" && !goes_on {
                let status = crate::terminal::printable(status, 60);
                return Err(format!("CloudWatch has not given everything (`{status}`); ask again"));
            }
            if series.timestamps.len() != series.values.len() {
                return Err(NOT_COUNTS.to_owned());
            }
            for (time, value) in series.timestamps.iter().zip(series.values) {
                self.point(time, value, window)?;
            }
        }
        Ok(())
    }

    fn point(&mut self, time: &Value, value: f64, window: &Window) -> Result<(), String> {
        let time = moment(time).ok_or(NOT_COUNTS)?;
        let requests = whole(value).ok_or_else(|| {
            format!("`{value}` is not a number of requests; ask for the statistic `SampleCount`, or `Sum`")
        })?;
        if window.holds(time) {
            self.requests = self.requests.saturating_add(requests);
            self.periods += 1;
        } else {
            self.outside += 1;
        }
        Ok(())
    }
}

const NOT_COUNTS: &str = "it is not what `aws cloudwatch get-metric-data` or `get-metric-statistics` prints";

/// Parses a time: text in printed output, seconds since 1970 in a response.
fn moment(time: &Value) -> Option<DateTime<Utc>> {
    match time {
        Value::String(text) => DateTime::parse_from_rfc3339(text).ok().map(|time| time.to_utc()),
        Value::Number(seconds) => {
            whole(seconds.as_f64()?).and_then(|seconds| DateTime::from_timestamp(seconds.try_into().ok()?, 0))
        }
        _ => None,
    }
}

/// Returns a whole number that is not negative and small enough to be exact.
fn whole(value: f64) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is whole, not negative and below 2^53"
    )]
    ((0.0..EXACT).contains(&value) && value.fract() == 0.0).then_some(value as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("a time")
    }

    /// An hour that begins at a full hour.
    fn window() -> Window {
        Window {
            from: time(1_779_998_400),
            to: time(1_780_002_000),
        }
    }

    fn counted(text: &str) -> Result<(u64, u64, u64), String> {
        let mut counted = Counted::default();
        counted.add(text, &window())?;
        Ok((counted.requests, counted.periods, counted.outside))
    }

    #[test]
    fn dimensions_name_one_api() {
        for text in [
            "ApiName=pixel",
            "ApiId=a1b2c3",
            "ApiName=my pixel,Stage=prod,Method=GET,Resource=/pixel.gif",
        ] {
            assert_eq!(text.parse::<Dimensions>().map(|it| it.to_string()), Ok(text.to_owned()));
        }
        for text in [
            "",
            "pixel",
            "ApiName=",
            "Stage=prod",
            "ApiName=a,ApiId=b",
            "ApiName=a,ApiName=b",
            "ApiName=a,Other=b",
        ] {
            assert!(text.parse::<Dimensions>().is_err(), "{text}");
        }
    }

    #[test]
    fn periods_are_those_that_are_kept() {
        let after = |days| window().from + TimeDelta::days(days);
        assert_eq!(period(&window(), after(1)), Ok(60));
        assert_eq!(period(&window(), after(20)), Ok(300));
        assert_eq!(period(&window(), after(200)), Ok(3_600));
        assert!(period(&window(), after(456)).is_err_and(|why| why.contains("455 days")));
        let inside = Window {
            to: time(1_780_001_940),
            ..window()
        };
        assert_eq!(period(&inside, after(1)), Ok(60));
        assert!(period(&inside, after(20)).is_err_and(|why| why.starts_with("`--to`")));
        let second = Window {
            from: time(1_779_998_401),
            ..window()
        };
        assert!(period(&second, after(1)).is_err_and(|why| why.contains("in the middle of a minute")));
    }

    #[test]
    fn a_question_is_one_of_the_json_protocol() {
        let dimensions: Dimensions = "ApiName=pixel,Stage=prod".parse().expect("dimensions");
        let call = question(&dimensions, &window(), 60, Some("more"));
        assert_eq!(call.target, "GraniteServiceVersion20100801.GetMetricData");
        let body: Value = serde_json::from_slice(&call.body).expect("JSON");
        assert_eq!(
            (&body["StartTime"], &body["EndTime"]),
            (&json!(1_779_998_400), &json!(1_780_002_000))
        );
        assert_eq!(body["NextToken"], "more");
        let stat = &body["MetricDataQueries"][0]["MetricStat"];
        assert_eq!((&stat["Period"], &stat["Stat"]), (&json!(60), &json!("SampleCount")));
        assert_eq!(
            stat["Metric"]["Dimensions"][1],
            json!({"Name": "Stage", "Value": "prod"})
        );
    }

    #[test]
    fn what_is_printed_and_what_is_answered_is_counted() {
        let data = |times: &[&str]| {
            let values: Vec<_> = times.iter().map(|_| 3.0).collect();
            json!({"MetricDataResults": [{"Id": "m1", "Label": "Count", "Timestamps": times, "Values": values, "StatusCode": "Complete"}], "Messages": []})
        };
        let inside = ["2026-05-28T20:00:00+00:00", "2026-05-28T20:59:00Z"];
        assert_eq!(counted(&data(&inside).to_string()), Ok((6, 2, 0)));
        // The first period before the window, and the first after it.
        let around = ["2026-05-28T19:59:00Z", "2026-05-28T21:00:00Z", "2026-05-28T20:00:00Z"];
        assert_eq!(counted(&format!("{:#}", data(&around))), Ok((3, 1, 2)));
        let pages = format!("{:#}\n{:#}", data(&inside[..1]), data(&inside[1..]));
        assert_eq!(counted(&pages), Ok((6, 2, 0)));
        let answer = r#"{"MetricDataResults":[{"Id":"count","Timestamps":[1.7799984E9,1779998460],"Values":[1.0,2.0],"StatusCode":"Complete"}]}"#;
        assert_eq!(counted(answer), Ok((3, 2, 0)));
        let statistics = json!({"Label": "Count", "Datapoints": [
            {"Timestamp": "2026-05-28T20:10:00+00:00", "Sum": 5.0, "Unit": "Count"},
            {"Timestamp": "2026-05-28T20:00:00+00:00", "SampleCount": 7.0, "Sum": 7.0, "Unit": "Count"},
        ]});
        assert_eq!(counted(&statistics.to_string()), Ok((12, 2, 0)));
        assert_eq!(counted(r#"{"Label": "Count", "Datapoints": []}"#), Ok((0, 0, 0)));
    }

    #[test]
    fn what_is_no_count_is_refused_with_the_reason() {
        let series = |more: &str| format!(r#"{{"MetricDataResults":[{{"Id":"a",{more}}}]}}"#);
        let table = [
            (String::new(), "it is not what"),
            ("{}".to_owned(), "it is not what"),
            ("{\"MetricDataResults\":".to_owned(), "it is not what"),
            (series(r#""Timestamps":[1],"Values":[]"#), "it is not what"),
            (series(r#""Timestamps":["soon"],"Values":[1]"#), "it is not what"),
            (
                series(r#""Timestamps":[1779998400],"Values":[0.5]"#),
                "is not a number of requests",
            ),
            (
                series(r#""Timestamps":[1779998400],"Values":[-1]"#),
                "is not a number of requests",
            ),
            (
                series(r#""Timestamps":[],"Values":[],"StatusCode":"Forbidden""#),
                "`Forbidden`",
            ),
            (
                series(r#""Timestamps":[],"Values":[],"StatusCode":"PartialData""#),
                "`PartialData`",
            ),
            (
                r#"{"MetricDataResults":[{"Id":"a"},{"Id":"b"}]}"#.to_owned(),
                "`a`, `b`",
            ),
            (r#"{"Label":"Latency","Datapoints":[]}"#.to_owned(), "`Latency`"),
            (
                r#"{"Label":"Count","Datapoints":[{"Timestamp":"2026-05-28T20:10:00Z","Average":1.0}]}"#.to_owned(),
                "SampleCount",
            ),
        ];
        for (text, expected) in table {
            let why = counted(&text).expect_err(&text);
            assert!(why.contains(expected), "{text}: {why}");
        }
    }
}
