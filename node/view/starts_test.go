package view

import (
	"slices"
	"strings"
	"testing"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
)

// Row 104: a memory reservation above the label's upper bound is named, with what holds.
func TestReservationAboveTheBound(t *testing.T) {
	for reservation, want := range map[knowledge.Bytes]bool{0: false, gib: false, 2 * gib: true} {
		c := steady("web-1")
		c.Marks.Engine.Reservation = reservation
		s := Status(daemon(), []mape.ContainerStatus{*c}, &mape.Summary{}, nil, now)
		named := func(text string) bool { return strings.Contains(text, "memory reservation of 2 GiB is above") }
		if slices.ContainsFunc(s.Problems, named) != want || slices.ContainsFunc(rejected(c, now), named) != want {
			t.Errorf("reservation %s: problems %q, explain %q", reservation, s.Problems, rejected(c, now))
		}
	}
}

// Row 137: status and explain report a requested limit that is in force and that the Engine did not
// record.
func TestInForceAndNotRecorded(t *testing.T) {
	c := steady("web-1")
	c.Marks.Quota, c.Marks.QuotaSet, c.Marks.Asked[knowledge.ResourceCPU] = core/2, true, int64(core/2)
	c.LastError = "refused with HTTP 403"
	named := func(text string) bool {
		return strings.Contains(text, "cpu 0.50 cores is in force in the kernel") &&
			strings.Contains(text, "it starts with 1.00 cores") && strings.Contains(text, "HTTP 403")
	}
	s := Status(daemon(), []mape.ContainerStatus{*c}, &mape.Summary{}, nil, now)
	if !slices.ContainsFunc(s.Problems, named) || !slices.ContainsFunc(rejected(c, now), named) {
		t.Errorf("problems %q, explain %q", s.Problems, rejected(c, now))
	}
	c.Marks.Engine.CPU = core / 2
	if got := unrecorded(c); len(got) > 0 {
		t.Errorf("recorded: %q", got)
	}
}
