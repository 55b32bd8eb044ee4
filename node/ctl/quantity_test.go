package ctl

import "testing"

// TestQuantity: numbers have the digits that tell something.
func TestQuantity(t *testing.T) {
	for _, c := range []struct {
		v          float64
		unit, want string
	}{
		{0.400079, "count/s", "0.4 /s"},
		{17.3333333, "count/s", "17 /s"},
		{1234567.89, "count/s", "1234568 /s"},
		{0, "count/s", "0 /s"},
		{12, "count", "12"},
		{250, "count", "250"},
	} {
		if got := quantity(c.v, c.unit); got != c.want {
			t.Errorf("%v %s: %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}
