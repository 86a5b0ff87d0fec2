//! Our own shape: DESIGN §8, one object a line. The field order is that of [`Alert`].

use crate::alert::Alert;

/// One alert as a JSON value.
pub fn render(alert: &Alert) -> serde_json::Value {
    serde_json::to_value(alert).expect("an alert holds strings, numbers and lists only")
}
