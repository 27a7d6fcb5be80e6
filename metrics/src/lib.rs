//! How a series is declared: once, with its meaning and a query that uses it, so that `docs/METRICS.md` can be made from the
//! code. Which series there are is up to each crate's own `metrics` module.

use std::sync::LazyLock;

pub use prometheus;
use prometheus::core::Collector;
use prometheus::{Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts};

/// What is known of a metric before any series of it exists.
#[derive(Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub help: &'static str,
    pub kind: &'static str,
    pub labels: &'static [&'static str],
    /// Upper bounds; the library's own when there are none.
    pub buckets: Option<fn() -> Vec<f64>>,
    /// PromQL.
    pub query: &'static str,
    /// Makes the metric known to the registry, should it not be yet. Without labels it then shows 0.
    pub register: fn(),
}

/// A type that [`declare!`] takes.
pub trait Declared: Collector + Clone + Sized + 'static {
    /// As Prometheus calls it.
    const KIND: &'static str;

    fn make(metric: &Metric) -> prometheus::Result<Self>;

    /// # Panics
    /// When the name is taken or not allowed, which is a mistake in the code.
    fn registered(metric: &Metric) -> Self {
        let made = Self::make(metric).expect("a name and labels that Prometheus allows");
        prometheus::register(Box::new(made.clone())).expect("the name is registered once");
        made
    }
}

fn opts(metric: &Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

fn histogram_opts(metric: &Metric) -> HistogramOpts {
    let opts = HistogramOpts::new(metric.name, metric.help);
    match metric.buckets {
        Some(buckets) => opts.buckets(buckets()),
        None => opts,
    }
}

macro_rules! declared {
    ($($type:ty, $kind:literal, $metric:ident => $make:expr;)*) => {$(
        impl Declared for $type {
            const KIND: &'static str = $kind;

            fn make($metric: &Metric) -> prometheus::Result<Self> {
                $make
            }
        }
    )*};
}

declared! {
    IntCounter, "counter", metric => IntCounter::with_opts(opts(metric));
    IntCounterVec, "counter", metric => IntCounterVec::new(opts(metric), metric.labels);
    IntGauge, "gauge", metric => IntGauge::with_opts(opts(metric));
    IntGaugeVec, "gauge", metric => IntGaugeVec::new(opts(metric), metric.labels);
    Histogram, "histogram", metric => Histogram::with_opts(histogram_opts(metric));
    HistogramVec, "histogram", metric => HistogramVec::new(histogram_opts(metric), metric.labels);
}

/// A metric that is registered when it is first used, or by [`Metric::register`].
pub type Lazy<T> = LazyLock<T>;

/// # Panics
/// When there is none.
pub fn named(metrics: &'static [Metric], name: &str) -> &'static Metric {
    metrics.iter().find(|metric| metric.name == name).expect("a declared name")
}

/// Bounds for what takes a fraction of a second as a rule. 500 ms is one: the objective of the ingress.
pub fn latency_buckets() -> Vec<f64> {
    vec![0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]
}

/// Bounds for what may wait for a neighbour's return. 30 s is one: the objective of deliveries.
pub fn waiting_buckets() -> Vec<f64> {
    vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0]
}

/// Declares a module's metrics as statics, and `METRICS`, which lists them.
///
/// ```
/// chat4all_metrics::declare! {
///     /// Calls of a provider.
///     static ATTEMPTS: IntCounterVec = "chat4all_delivery_attempts_total", ["channel", "outcome"];
///     "sum by (outcome) (rate(chat4all_delivery_attempts_total[5m]))"
/// }
/// ATTEMPTS.with_label_values(&["sms", "accepted"]).inc();
/// assert_eq!(METRICS[0].help, "Calls of a provider.");
/// ```
#[macro_export]
macro_rules! declare {
    ($(
        $(#[doc = $help:literal])+
        $vis:vis static $name:ident: $type:ident = $text:literal $(, [$($label:literal),+])? $(, buckets $buckets:expr)?;
        $query:literal
    )+) => {
        $(
            $(#[doc = $help])+
            $vis static $name: $crate::Lazy<$crate::prometheus::$type> =
                $crate::Lazy::new(|| $crate::Declared::registered($crate::named(METRICS, $text)));
        )+

        /// What this module measures.
        pub static METRICS: &[$crate::Metric] = &[$(
            $crate::Metric {
                name: $text,
                help: concat!($($help),+).trim_ascii_start(),
                kind: <$crate::prometheus::$type as $crate::Declared>::KIND,
                labels: &[$($($label),+)?],
                buckets: $crate::declare!(@buckets $($buckets)?),
                query: $query,
                register: || {
                    $crate::Lazy::force(&$name);
                },
            }
        ),+];
    };
    (@buckets) => { None };
    (@buckets $buckets:expr) => { Some($buckets) };
}
