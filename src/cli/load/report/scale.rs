//! Axes: from a value to a place between 0 and 1, and where the ticks stand.

/// Ticks wished for on a linear axis.
const TICKS: f64 = 6.0;
/// A range of more than this factor is drawn logarithmically, where that is allowed.
const LOG_FROM: f64 = 20.0;
/// Most ticks at measured values.
const MARKS_MAX: usize = 10;
/// How near two of them may be, of the whole axis.
const MARKS_APART: f64 = 0.05;

/// An axis over a range.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    min: f64,
    max: f64,
    is_log: bool,
    /// Value and label, rising.
    pub(super) ticks: Vec<(f64, String)>,
}

impl Scale {
    /// Linear from zero, with room above.
    pub(super) fn from_zero(values: impl IntoIterator<Item = f64>) -> Self {
        let max = values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::max);
        Self::linear(0.0, if max > 0.0 { max * 1.05 } else { 1.0 })
    }

    /// Linear over exactly this range.
    pub(super) fn exact(min: f64, max: f64) -> Self {
        Self::linear(min, if max > min { max } else { min + 1.0 })
    }

    /// Logarithmic if the values are positive and spread far, else linear from zero.
    pub(super) fn fitting(values: impl IntoIterator<Item = f64>) -> Self {
        let values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
        let (min, max) = values
            .iter()
            .fold((f64::INFINITY, 0.0_f64), |(min, max), value| (min.min(*value), max.max(*value)));
        if min > 0.0 && max / min >= LOG_FROM { Self::log(min, max) } else { Self::from_zero(values) }
    }

    /// With ticks of one's own.
    pub(super) fn with_ticks(min: f64, max: f64, ticks: Vec<(f64, String)>) -> Self {
        let ticks = ticks.into_iter().filter(|(value, _)| (min..=max).contains(value)).collect();
        Self { min, max: if max > min { max } else { min + 1.0 }, is_log: false, ticks }
    }

    /// Puts the ticks at these values, if they are few: the places where something was measured.
    pub(super) fn mark(&mut self, values: impl IntoIterator<Item = f64>) {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        values.dedup();
        let apart = values.windows(2).all(|two| self.place(two[1]) - self.place(two[0]) >= MARKS_APART);
        if values.len() <= MARKS_MAX && apart {
            self.ticks = values.into_iter().map(|value| (value, label(value, value / 100.0))).collect();
        }
    }

    fn linear(min: f64, max: f64) -> Self {
        let step = nice_step((max - min) / TICKS);
        let first = (min / step).ceil();
        let count = ((max - first * step) / step * (1.0 + 1e-9)).floor();
        // A handful, by the choice of the step.
        let ticks = (0..=count as u32).map(|at| {
            let value = (first + f64::from(at)) * step;
            (value, label(value, step))
        });
        Self { min, max, is_log: false, ticks: ticks.collect() }
    }

    fn log(min: f64, max: f64) -> Self {
        let wide = max / min > 2_000.0;
        let steps: &[f64] = if wide { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut ticks = Vec::new();
        // The exponents of doubles are few hundred at most.
        for exponent in min.log10().floor() as i32..=max.log10().ceil() as i32 {
            for step in steps {
                let value = step * 10.0_f64.powi(exponent);
                ticks.push((value, label(value, value)));
            }
        }
        let below = ticks.iter().rposition(|(value, _)| *value <= min * (1.0 + 1e-9)).unwrap_or(0);
        let above =
            ticks.iter().position(|(value, _)| *value >= max * (1.0 - 1e-9)).unwrap_or(ticks.len() - 1);
        let ticks = ticks[below..=above.max(below)].to_vec();
        let (min, max) = (ticks[0].0, ticks[ticks.len() - 1].0);
        Self { min, max: if max > min { max } else { min * 10.0 }, is_log: true, ticks }
    }

    /// 0 at the beginning of the axis and 1 at its end; beyond, the end.
    pub(super) fn place(&self, value: f64) -> f64 {
        let place = if self.is_log {
            (value.max(self.min).log10() - self.min.log10()) / (self.max.log10() - self.min.log10())
        } else {
            (value - self.min) / (self.max - self.min)
        };
        place.clamp(0.0, 1.0)
    }
}

/// 1, 2 or 5 times a power of ten, at least `rough`.
fn nice_step(rough: f64) -> f64 {
    let power = 10.0_f64.powf(rough.max(f64::MIN_POSITIVE).log10().floor());
    let lead = [1.0, 2.0, 5.0, 10.0].into_iter().find(|lead| lead * power >= rough * (1.0 - 1e-9));
    lead.unwrap_or(10.0) * power
}

/// With as many digits as the step needs: 0.25, 3, 20k, 1.5M.
fn label(value: f64, step: f64) -> String {
    let (value, step, unit) = match value.abs() {
        size if size >= 1e6 => (value / 1e6, step / 1e6, "M"),
        size if size >= 1e4 => (value / 1e3, step / 1e3, "k"),
        _ => (value, step, ""),
    };
    let digits = if step >= 1.0 { 0 } else { (-step.log10()).ceil().clamp(0.0, 6.0) as usize };
    let text = format!("{value:.digits$}");
    // A step of 0.5 M has whole numbers between its halves.
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale) -> Vec<&str> {
        scale.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_and_cover_the_values() {
        let scale = Scale::from_zero([1.0, 21_485.0]);
        assert_eq!(labels(&scale), ["0", "5000", "10k", "15k", "20k"]);
        assert!(scale.place(0.0).abs() < 1e-9 && scale.place(25_000.0) >= 1.0);
        assert_eq!(labels(&Scale::from_zero([0.9])), ["0", "0.2", "0.4", "0.6", "0.8"]);
        assert_eq!(labels(&Scale::from_zero([])).len(), 6);
        assert_eq!(labels(&Scale::from_zero([2_400_000.0])), ["0", "500k", "1M", "1.5M", "2M", "2.5M"]);
    }

    #[test]
    fn far_spread_values_are_drawn_logarithmically() {
        let scale = Scale::fitting([1.0, 100.0]);
        assert_eq!(labels(&scale), ["1", "2", "5", "10", "20", "50", "100"]);
        assert!((scale.place(10.0) - 0.5).abs() < 1e-9);
        let wide = Scale::fitting([10.0, 1_000_000.0]);
        assert_eq!(labels(&wide), ["10", "100", "1000", "10k", "100k", "1M"]);
        assert_eq!(labels(&Scale::fitting([5.0, 10.0]))[0], "0", "near values start from zero");
        assert_eq!(labels(&Scale::fitting([0.0, 1000.0]))[0], "0", "zero has no logarithm");
    }

    #[test]
    fn an_exact_axis_ends_with_its_values() {
        let scale = Scale::exact(0.0, 8.0);
        assert!((scale.place(8.0) - 1.0).abs() < 1e-9);
        assert_eq!(labels(&scale), ["0", "2", "4", "6", "8"]);
        assert!(Scale::exact(3.0, 3.0).place(3.0).is_finite());
    }

    #[test]
    fn measured_values_are_marked_where_they_have_room() {
        let mut scale = Scale::fitting([1000.0, 10_000.0, 20_000.0]);
        scale.mark([1000.0, 10_000.0, 20_000.0, 1000.0]);
        assert_eq!(labels(&scale), ["1000", "10k", "20k"]);
        let mut crowded = Scale::from_zero([100.0]);
        crowded.mark([1.0, 2.0, 100.0]);
        assert_eq!(labels(&crowded)[1], "20");
    }

    #[test]
    fn every_place_is_within_the_plot() {
        for scale in
            [Scale::fitting([0.001, 1000.0]), Scale::from_zero([f64::INFINITY]), Scale::exact(0.0, 0.0)]
        {
            for value in [-5.0, 0.0, 1.0, 1e12] {
                assert!((0.0..=1.0).contains(&scale.place(value)), "{scale:?} {value}");
            }
        }
    }
}
