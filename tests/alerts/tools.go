//go:build tools

// Package promtool pins the promtool command that the tests run.
package promtool

import _ "github.com/prometheus/prometheus/cmd/promtool"
