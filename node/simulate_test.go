package node

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/effiscale/effiscale/mape/simulate"
	"github.com/effiscale/effiscale/node/config"
)

// A replay holds to the policy that a container has when nobody says anything:
// simulate cannot read the configuration and repeats it.
func TestSimulateHasTheDefaultPolicy(t *testing.T) {
	want := config.Defaults().Policy
	got := simulate.Defaults().Policy
	want.Managed, want.Mode = got.Managed, got.Mode
	want.CPUSource, want.MemorySource = "", ""
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the simulator's policy is not the configuration's (-want +got):\n%s", diff)
	}
}
