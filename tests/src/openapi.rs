//! What a host says about its interface, and whether an answer is as it says.

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Value};

/// An OpenAPI description.
pub struct Description(Value);

/// One method of one path.
pub struct Operation<'d> {
    /// In capitals.
    pub method: String,
    /// The path's template.
    pub template: &'d str,
    /// The path with the examples of its parameters.
    pub path: String,
    /// What is said about it.
    pub operation: &'d Value,
}

impl Description {
    /// Takes the description as served.
    pub fn new(description: Value) -> Description {
        Description(description)
    }

    /// Every operation.
    pub fn operations(&self) -> Vec<Operation<'_>> {
        let mut all = Vec::new();
        for (template, item) in self.0["paths"].as_object().into_iter().flatten() {
            let parameters = item["parameters"].as_array().into_iter().flatten().map(|parameter| self.resolve(parameter));
            let path = parameters.fold(template.clone(), |path, parameter| {
                let name = parameter["name"].as_str().unwrap_or_default();
                path.replace(&format!("{{{name}}}"), parameter["example"].as_str().unwrap_or_default())
            });
            for (method, operation) in item.as_object().into_iter().flatten().filter(|(key, _)| *key != "parameters") {
                all.push(Operation { method: method.to_uppercase(), template, path: path.clone(), operation });
            }
        }
        all
    }

    /// Checks an answer: its status must be described, and its body must be as described. What no operation describes must be an error.
    pub fn check(&self, method: &str, path: &str, status: u16, body: &[u8]) -> anyhow::Result<()> {
        let Some(operation) = self.find(method, path) else {
            ensure!(status == 404 || status == 405, "{method} {path} is not described and answers {status}");
            return self.check_value(&serde_json::from_slice(body)?, &serde_json::json!({"$ref": "#/components/schemas/Error"}), "body");
        };
        let response = &operation.operation["responses"][status.to_string()];
        ensure!(!response.is_null(), "{method} {} answers {status}, which is not described", operation.template);
        let content = self.resolve(response)["content"].as_object().cloned().unwrap_or_default();
        match content.get("application/json") {
            Some(json) => self.check_value(&serde_json::from_slice(body).context("the body is no JSON")?, &json["schema"], "body"),
            None => Ok(()),
        }
    }

    /// `METHOD template` of the operation that `METHOD path` asks for.
    pub fn template_of(&self, asked: &str) -> Option<String> {
        let (method, path) = asked.split_once(' ')?;
        self.find(method, path).map(|operation| format!("{method} {}", operation.template))
    }

    fn find(&self, method: &str, path: &str) -> Option<Operation<'_>> {
        let path = path.split('?').next().unwrap_or_default();
        let mut operations = self.operations();
        // `/v1/transforms` and its like before a template that they match too.
        operations.sort_by_key(|operation| operation.template.matches('{').count());
        operations.into_iter().find(|operation| operation.method == method && matches(operation.template, path))
    }

    /// Checks that every example in the description is as its schema says; how many there are.
    pub fn check_examples(&self) -> anyhow::Result<usize> {
        let mut checked = 0;
        self.check_examples_in(&self.0, &mut checked)?;
        Ok(checked)
    }

    fn check_examples_in(&self, value: &Value, checked: &mut usize) -> anyhow::Result<()> {
        match value {
            Value::Object(members) => {
                if let (Some(schema), Some(example)) = (members.get("schema"), members.get("example")) {
                    self.check_value(example, schema, "example").with_context(|| format!("in {example}"))?;
                    *checked += 1;
                }
                members.values().try_for_each(|member| self.check_examples_in(member, checked))
            }
            Value::Array(items) => items.iter().try_for_each(|item| self.check_examples_in(item, checked)),
            _ => Ok(()),
        }
    }

    fn resolve<'d>(&'d self, value: &'d Value) -> &'d Value {
        match value["$ref"].as_str().and_then(|reference| self.0.pointer(reference.trim_start_matches('#'))) {
            Some(target) => target,
            None => value,
        }
    }

    /// The part of JSON Schema that the description uses.
    fn check_value(&self, value: &Value, schema: &Value, place: &str) -> anyhow::Result<()> {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self.0.pointer(reference.trim_start_matches('#')).with_context(|| format!("{reference} leads nowhere"))?;
            return self.check_value(value, target, place);
        }
        if let Some(choices) = schema["oneOf"].as_array() {
            let fitting = choices.iter().filter(|choice| self.check_value(value, choice, place).is_ok()).count();
            ensure!(fitting == 1, "{place} fits {fitting} of the schemas of a oneOf: {value}");
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        let actual = type_name(value);
        let fits = |wanted: &&str| **wanted == *actual || **wanted == *"number" && actual == "integer";
        ensure!(types.is_empty() || types.iter().any(fits), "{place} is of type {actual}, not {types:?}");
        if let Some(allowed) = schema["enum"].as_array() {
            ensure!(allowed.contains(value), "{place} is {value}, which is none of {allowed:?}");
        }
        match value {
            Value::Object(members) => self.check_members(members, schema, place),
            Value::Array(items) if !schema["items"].is_null() => {
                let places = items.iter().enumerate().map(|(index, item)| (item, format!("{place}[{index}]")));
                places.into_iter().try_for_each(|(item, place)| self.check_value(item, &schema["items"], &place))
            }
            _ => Ok(()),
        }
    }

    fn check_members(&self, members: &Map<String, Value>, schema: &Value, place: &str) -> anyhow::Result<()> {
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            ensure!(members.contains_key(name), "{place} has no {name}");
        }
        for (name, member) in members {
            match (schema["properties"].get(name), schema.get("additionalProperties")) {
                (Some(schema), _) => self.check_value(member, schema, &format!("{place}.{name}"))?,
                (None, Some(schema @ Value::Object(_))) => self.check_value(member, schema, &format!("{place}.{name}"))?,
                (None, Some(Value::Bool(true))) => {}
                // What an answer has and the description has not is a gap in the description.
                (None, _) if schema["properties"].is_object() => bail!("{place}.{name} is not described"),
                (None, _) => {}
            }
        }
        Ok(())
    }
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path): (Vec<&str>, Vec<&str>) = (template.split('/').collect(), path.split('/').collect());
    template.len() == path.len()
        && template.iter().zip(&path).all(|(part, given)| part == given || part.starts_with('{') && !given.is_empty())
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
