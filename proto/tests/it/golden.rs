//! Names, tags and types of all messages and methods, held to a golden text: clients of the Go project rely on them.

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Label};

fn message(package: &str, message: &DescriptorProto) -> String {
    let mut text = format!("message {package}.{}\n", message.name());
    for field in &message.field {
        let repeated = if field.label() == Label::Repeated { "repeated " } else { "" };
        let kind = match field.type_name() {
            "" => format!("{:?}", field.r#type()).to_lowercase(),
            name => name.trim_start_matches('.').to_owned(),
        };
        text += &format!("  {repeated}{kind} {} = {}\n", field.name(), field.number());
    }
    text
}

fn render() -> String {
    let set = FileDescriptorSet::decode(proto::FILE_DESCRIPTOR_SET).unwrap();
    let mut text = String::new();
    for file in &set.file {
        for service in &file.service {
            text += &format!("service {}.{}\n", file.package(), service.name());
            for method in &service.method {
                let (input, output) = (method.input_type(), method.output_type());
                text += &format!("  {}({}) -> {}\n", method.name(), &input[1..], &output[1..]);
            }
        }
        for descriptor in &file.message_type {
            text += &message(file.package(), descriptor);
        }
    }
    text
}

#[test]
fn names_and_tags_are_those_of_the_golden_text() {
    assert_eq!(render(), include_str!("../golden.txt"));
}
