//! How one declared series is registered: every kind through the same [`Spec`], labelled ones with all their known
//! label values at 0.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
};
use prometheus::{Opts, Registry};

/// What a declaration says of a series.
pub(super) struct Spec<'a> {
    pub name: &'static str,
    pub help: &'static str,
    /// Label names with their known values.
    pub labels: &'a [(&'static str, &'a [&'static str])],
    /// Upper bounds in the metric's unit: one list for a histogram, none for others.
    pub buckets: &'a [&'a [f64]],
}

impl Spec<'_> {
    fn opts(&self) -> Opts {
        Opts::new(self.name, self.help)
    }

    fn histogram_opts(&self) -> HistogramOpts {
        HistogramOpts::new(self.name, self.help).buckets(self.buckets.concat())
    }

    fn label_names(&self) -> Vec<&'static str> {
        self.labels.iter().map(|(name, _)| *name).collect()
    }

    /// Every combination of the known label values.
    fn combinations(&self) -> Vec<Vec<&'static str>> {
        self.labels.iter().fold(vec![Vec::new()], |rows, (_, values)| {
            rows.iter().flat_map(|row| values.iter().map(|value| [&row[..], &[*value]].concat())).collect()
        })
    }
}

/// The proof behind each `expect` here: declarations are constants, and a test makes them all.
const DECLARED: &str = "declared names, labels and buckets are valid and distinct, which a test shows";

/// A kind of metric that a declaration can name.
pub(super) trait Series: Sized + Clone + Collector + 'static {
    /// Makes the series, unregistered.
    fn make(spec: &Spec<'_>) -> prometheus::Result<Self>;

    /// Makes the series and registers it.
    fn register(registry: &Registry, spec: Spec<'_>) -> Self {
        let series = Self::make(&spec).expect(DECLARED);
        registry.register(Box::new(series.clone())).expect(DECLARED);
        series
    }
}

impl Series for IntCounter {
    fn make(spec: &Spec<'_>) -> prometheus::Result<Self> {
        Self::with_opts(spec.opts())
    }
}

impl Series for IntGauge {
    fn make(spec: &Spec<'_>) -> prometheus::Result<Self> {
        Self::with_opts(spec.opts())
    }
}

impl Series for Gauge {
    fn make(spec: &Spec<'_>) -> prometheus::Result<Self> {
        Self::with_opts(spec.opts())
    }
}

impl Series for Histogram {
    fn make(spec: &Spec<'_>) -> prometheus::Result<Self> {
        Self::with_opts(spec.histogram_opts())
    }
}

impl Series for IntCounterVec {
    fn make(spec: &Spec<'_>) -> prometheus::Result<Self> {
        let series = Self::new(spec.opts(), &spec.label_names())?;
        for values in spec.combinations() {
            series.get_metric_with_label_values(&values)?;
        }
        Ok(series)
    }
}

impl Series for IntGaugeVec {
    fn make(spec: &Spec<'_>) -> prometheus::Result<Self> {
        let series = Self::new(spec.opts(), &spec.label_names())?;
        for values in spec.combinations() {
            series.get_metric_with_label_values(&values)?;
        }
        Ok(series)
    }
}

impl Series for GaugeVec {
    fn make(spec: &Spec<'_>) -> prometheus::Result<Self> {
        let series = Self::new(spec.opts(), &spec.label_names())?;
        for values in spec.combinations() {
            series.get_metric_with_label_values(&values)?;
        }
        Ok(series)
    }
}

impl Series for HistogramVec {
    fn make(spec: &Spec<'_>) -> prometheus::Result<Self> {
        let series = Self::new(spec.histogram_opts(), &spec.label_names())?;
        for values in spec.combinations() {
            series.get_metric_with_label_values(&values)?;
        }
        Ok(series)
    }
}
