//! Prints the JSON Schema of the messages that customers receive.

fn main() {
    print!("{}", marketrelay_relay::deliver::body::schema_text());
}
