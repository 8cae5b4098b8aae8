//! Reading a body as the bridge's schemas do: unknown fields are refused, all faults are listed, numbers may be text.

use rust_decimal::Decimal;
use serde_json::{Map, Value};

/// A body under inspection. Each reader notes its field as known and its faults; [`Form::finish`] decides.
#[derive(Debug)]
pub(super) struct Form<'a> {
    fields: &'a Map<String, Value>,
    known: Vec<&'static str>,
    faults: Vec<(String, String)>,
}

/// All faults of a body: field and message, in the schema's order.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Faulty(Vec<(String, String)>);

impl Faulty {
    /// One fault.
    pub(super) fn one(field: &str, message: &str) -> Self {
        Self(vec![(field.to_owned(), message.to_owned())])
    }

    /// As an object, which is what most routes answer.
    pub(super) fn object(&self) -> Value {
        self.0.iter().map(|(field, message)| (field.clone(), Value::from(vec![message.clone()]))).collect()
    }

    /// As the text of a Python dictionary, which is what placeorder answers.
    pub(super) fn python_text(&self) -> String {
        let items: Vec<_> =
            self.0.iter().map(|(field, message)| format!("{}: [{}]", repr(field), repr(message))).collect();
        format!("{{{}}}", items.join(", "))
    }
}

/// A string as Python would show it.
fn repr(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let escaped = text.replace('\\', "\\\\");
    let escaped = if quote == '\'' { escaped.replace('\'', "\\'") } else { escaped };
    format!("{quote}{escaped}{quote}")
}

const MISSING: &str = "Missing data for required field.";

impl<'a> Form<'a> {
    pub(super) fn new(fields: &'a Map<String, Value>) -> Self {
        Self { fields, known: Vec::new(), faults: Vec::new() }
    }

    fn field(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        self.fields.get(name)
    }

    fn required(&mut self, name: &'static str) -> Option<&'a Value> {
        let value = self.field(name);
        if value.is_none() {
            self.fault(name, MISSING);
        }
        value
    }

    pub(super) fn fault(&mut self, name: &str, message: impl Into<String>) {
        self.faults.push((name.to_owned(), message.into()));
    }

    /// A required string.
    pub(super) fn text(&mut self, name: &'static str) -> String {
        match self.required(name) {
            Some(Value::String(text)) => text.clone(),
            Some(_) => {
                self.fault(name, "Not a valid string.");
                String::new()
            }
            None => String::new(),
        }
    }

    /// One of a set of words; `default` makes it optional.
    pub(super) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        choices: &[(&str, T)],
        default: Option<T>,
    ) -> Option<T> {
        let value = if default.is_some() { self.field(name) } else { self.required(name) };
        let Some(value) = value else { return default };
        let found = value.as_str().and_then(|text| choices.iter().find(|(word, _)| *word == text));
        if found.is_none() {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.fault(name, format!("Must be one of: {}.", words.join(", ")));
        }
        found.map(|(_, chosen)| *chosen)
    }

    /// A number or a numeric string, not negative; `default` makes it optional.
    pub(super) fn number(&mut self, name: &'static str, default: Option<Decimal>) -> Decimal {
        let value = if default.is_some() { self.field(name) } else { self.required(name) };
        let Some(value) = value else { return default.unwrap_or_default() };
        let number = match value {
            Value::Number(number) => decimal(&number.to_string()),
            Value::String(text) => decimal(text.trim()),
            _ => None,
        };
        match number {
            Some(number) if number < Decimal::ZERO => {
                self.fault(name, "Must be greater than or equal to 0.");
                Decimal::ZERO
            }
            Some(number) => number,
            None => {
                self.fault(name, "Not a valid number.");
                Decimal::ZERO
            }
        }
    }

    /// A required order quantity: positive and whole.
    pub(super) fn quantity(&mut self, name: &'static str) -> i64 {
        let faults = self.faults.len();
        let number = self.number(name, None);
        if self.faults.len() > faults {
            return 0;
        }
        let whole = (number.fract() == Decimal::ZERO).then(|| i64::try_from(number).ok()).flatten();
        match whole {
            Some(quantity) if quantity > 0 => quantity,
            Some(_) => {
                self.fault(name, "Quantity must be greater than 0.");
                0
            }
            None => {
                self.fault(name, "Quantity must be a whole number.");
                0
            }
        }
    }

    /// A field that is read past.
    pub(super) fn ignored(&mut self, name: &'static str) {
        self.field(name);
    }

    /// A required field as it is.
    pub(super) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.required(name)
    }

    /// All faults, or none.
    pub(super) fn finish(mut self) -> Result<(), Faulty> {
        for name in self.fields.keys() {
            if !self.known.contains(&name.as_str()) {
                self.faults.push((name.clone(), "Unknown field.".to_owned()));
            }
        }
        if self.faults.is_empty() { Ok(()) } else { Err(Faulty(self.faults)) }
    }
}

/// A decimal from JSON number text, exponents included.
fn decimal(text: &str) -> Option<Decimal> {
    text.parse().ok().or_else(|| Decimal::from_scientific(text).ok())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(body: Value, read: impl Fn(&mut Form<'_>)) -> Faulty {
        let Value::Object(fields) = body else { panic!("not an object") };
        let mut form = Form::new(&fields);
        read(&mut form);
        form.finish().unwrap_err()
    }

    #[test]
    fn all_faults_are_listed_and_unknown_fields_refused() {
        let faulty = faults(json!({ "quantity": "x", "tag": "mine" }), |form| {
            form.text("symbol");
            form.quantity("quantity");
        });
        assert_eq!(
            faulty.python_text(),
            "{'symbol': ['Missing data for required field.'], 'quantity': ['Not a valid number.'], \
             'tag': ['Unknown field.']}"
        );
        assert_eq!(faulty.object()["tag"], json!(["Unknown field."]));
    }

    #[test]
    fn quantities_are_whole_and_positive_numbers_or_text() {
        for (value, wanted) in [(json!(30), 30), (json!("30"), 30), (json!(30.0), 30), (json!("30.0"), 30)] {
            let body = json!({ "quantity": value });
            let mut form = Form::new(body.as_object().unwrap());
            assert_eq!(form.quantity("quantity"), wanted);
            form.finish().unwrap();
        }
        for value in [json!(0), json!(-5), json!(1.5), json!(null), json!(true), json!("")] {
            faults(json!({ "quantity": value }), |form| {
                form.quantity("quantity");
            });
        }
    }
}
