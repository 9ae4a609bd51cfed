package platform

import "encoding/json"

// Topic is a kind of message that the platform pushes to apps. The catalog
// describes topics under webhooks (OpenAPI 3.1 section 4.8.1).
type Topic struct {
	// Name is words joined by dots: "trade.order.created".
	Name        string `json:"name"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// Package is the permission package that it belongs to: only apps that
	// have it get messages.
	Package string `json:"package"`
	// UserToken says that a message concerns a merchant, and reaches the apps
	// alone that the merchant has authorized. Topics of public data lack it.
	UserToken bool      `json:"user_token,omitempty"`
	Status    APIStatus `json:"status"`
	// Schema is the JSON Schema of a message's data, references resolved.
	Schema json.RawMessage `json:"schema,omitempty"`
	// Example is the data of an example message.
	Example json.RawMessage `json:"example,omitempty"`
	// Spec is the webhook's operation as the catalog file has it.
	Spec json.RawMessage `json:"spec,omitempty"`
	// Source names the catalog that it came from.
	Source string `json:"source,omitempty"`
}

// TopicFilter selects topics in a list. Zero fields select everything.
type TopicFilter struct {
	Status  APIStatus
	Package string
	// Text is a part of the name, the title or the description.
	Text string
}
