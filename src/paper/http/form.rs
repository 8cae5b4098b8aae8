//! Reading a body as the bridge's schemas do: unknown fields are refused, all faults are listed, numbers may be text.

use chrono::NaiveDate;
use rust_decimal::Decimal;
use serde_json::{Map, Value, json};

/// A body under inspection. Each reader notes its field as known and its faults; [`Form::finish`] decides.
#[derive(Debug)]
pub(super) struct Form<'a> {
    fields: &'a Map<String, Value>,
    known: Vec<&'static str>,
    faults: Vec<(String, Value)>,
}

/// All faults of a body: field and messages, in the schema's order; those of a list's items are an object by their places.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Faulty(Vec<(String, Value)>);

impl Faulty {
    /// One fault.
    pub(super) fn one(field: &str, message: &str) -> Self {
        Self(vec![(field.to_owned(), json!([message]))])
    }

    /// As an object, which is what most routes answer.
    pub(super) fn object(&self) -> Value {
        self.0.iter().cloned().collect()
    }

    /// As the text of a Python dictionary, which is what placeorder answers.
    pub(super) fn python_text(&self) -> String {
        let items: Vec<_> =
            self.0.iter().map(|(field, said)| format!("{}: {}", repr(field), python(said))).collect();
        format!("{{{}}}", items.join(", "))
    }
}

/// Messages as Python would show them.
fn python(said: &Value) -> String {
    match said {
        Value::Array(messages) => format!("[{}]", messages.iter().map(python).collect::<Vec<_>>().join(", ")),
        Value::String(text) => repr(text),
        other => other.to_string(),
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
        self.faults.push((name.to_owned(), json!([message.into()])));
    }

    /// A required list of one to `most` objects, each read as a form of its own; its faults stand under its place.
    pub(super) fn list<T>(
        &mut self,
        name: &'static str,
        most: usize,
        read: impl Fn(&mut Form<'_>) -> Option<T>,
    ) -> Vec<T> {
        let Some(value) = self.required(name) else { return Vec::new() };
        let Some(items) = value.as_array().filter(|items| (1..=most).contains(&items.len())) else {
            self.fault(name, format!("Must be a list of 1 to {most} items."));
            return Vec::new();
        };
        let (mut all, mut faults) = (Vec::new(), Map::new());
        for (place, item) in items.iter().enumerate() {
            let read = item.as_object().map_or_else(
                || Err(Faulty::one("_schema", "Invalid input type.")),
                |fields| {
                    let mut form = Form::new(fields);
                    let item = read(&mut form);
                    form.finish().map(|()| item)
                },
            );
            match read {
                Ok(item) => all.extend(item),
                Err(faulty) => _ = faults.insert(place.to_string(), faulty.object()),
            }
        }
        if !faults.is_empty() {
            self.faults.push((name.to_owned(), Value::Object(faults)));
        }
        all
    }

    /// A string that may be left out or null.
    pub(super) fn optional_text(&mut self, name: &'static str) -> Option<String> {
        match self.field(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(_) => {
                self.fault(name, "Not a valid string.");
                None
            }
        }
    }

    /// A required day, `YYYY-MM-DD`.
    pub(super) fn day(&mut self, name: &'static str) -> Option<NaiveDate> {
        let day = self.text(name).parse().ok();
        if day.is_none() {
            self.fault(name, "Not a valid date.");
        }
        day
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
        let number = self.any_number(name, value);
        if number < Decimal::ZERO {
            self.fault(name, "Must be greater than or equal to 0.");
        }
        number.max(Decimal::ZERO)
    }

    /// A required number or numeric string, perhaps negative.
    pub(super) fn signed(&mut self, name: &'static str) -> Decimal {
        self.required(name).map(|value| self.any_number(name, value)).unwrap_or_default()
    }

    fn any_number(&mut self, name: &'static str, value: &Value) -> Decimal {
        let number = match value {
            Value::Number(number) => decimal(&number.to_string()),
            Value::String(text) => decimal(text.trim()),
            _ => None,
        };
        if number.is_none() {
            self.fault(name, "Not a valid number.");
        }
        number.unwrap_or_default()
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
                self.faults.push((name.clone(), json!(["Unknown field."])));
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
    fn the_faults_of_a_lists_items_stand_under_their_places() {
        let read = |form: &mut Form<'_>| _ = form.list("orders", 2, |form| Some(form.quantity("quantity")));
        let body = json!({ "orders": [{ "quantity": 5 }, { "quantity": 0, "tag": "x" }] });
        assert_eq!(
            faults(body, read).object(),
            json!({ "orders": { "1": { "quantity": ["Quantity must be greater than 0."], "tag": ["Unknown field."] } } })
        );
        for odd in [json!([]), json!({}), json!([1]), json!([{}, {}, {}])] {
            faults(json!({ "orders": odd }), read);
        }
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
