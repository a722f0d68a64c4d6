//! Fifty features of one entity, for the bench of queries.

use gristmill_sdk::prelude::*;

/// A measurement.
#[derive(Input)]
pub struct Measurement<'a> {
    /// Who was measured.
    pub id: &'a str,
    /// What was measured.
    pub value: f64,
}

macro_rules! wide {
    ($($name:ident = $factor:literal),* $(,)?) => {
        /// The value fifty times over, each time scaled by another factor.
        #[derive(Output)]
        pub struct Wide {
            $(
                /// The value, scaled.
                pub $name: f64,
            )*
        }

        impl Wide {
            fn of(value: f64) -> Self {
                Self { $($name: value * $factor),* }
            }
        }
    };
}

wide! {
    f00 = 0.370,
    f01 = 1.483,
    f02 = 2.596,
    f03 = 3.709,
    f04 = 4.822,
    f05 = 5.935,
    f06 = 7.048,
    f07 = 8.161,
    f08 = 9.274,
    f09 = 10.387,
    f10 = 11.500,
    f11 = 12.613,
    f12 = 13.726,
    f13 = 14.839,
    f14 = 15.952,
    f15 = 17.065,
    f16 = 18.178,
    f17 = 19.291,
    f18 = 20.404,
    f19 = 21.517,
    f20 = 22.630,
    f21 = 23.743,
    f22 = 24.856,
    f23 = 25.969,
    f24 = 27.082,
    f25 = 28.195,
    f26 = 29.308,
    f27 = 30.421,
    f28 = 31.534,
    f29 = 32.647,
    f30 = 33.760,
    f31 = 34.873,
    f32 = 35.986,
    f33 = 37.099,
    f34 = 38.212,
    f35 = 39.325,
    f36 = 40.438,
    f37 = 41.551,
    f38 = 42.664,
    f39 = 43.777,
    f40 = 44.890,
    f41 = 46.003,
    f42 = 47.116,
    f43 = 48.229,
    f44 = 49.342,
    f45 = 50.455,
    f46 = 51.568,
    f47 = 52.681,
    f48 = 53.794,
    f49 = 54.907,
}

/// Scales a value in fifty ways.
#[transform(entity = "id", stream = "measurements")]
pub fn bench_wide(measurement: Measurement) -> Wide {
    let _ = measurement.id;
    Wide::of(measurement.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_is_the_value_scaled() {
        let wide = bench_wide(Measurement { id: "a", value: 2.0 });
        assert_eq!((wide.f00, wide.f49), (2.0 * 0.37, 2.0 * 54.907));
    }
}
