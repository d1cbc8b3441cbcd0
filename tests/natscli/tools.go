//go:build tools

// Package natscli pins the nats command that the tests run.
package natscli

import _ "github.com/nats-io/natscli/nats"
