package view

import (
	"fmt"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// runtimeView is the recognised program; nil: there is none.
func runtimeView(c *mape.ContainerStatus) *api.RuntimeView {
	r := &c.Runtime
	if r.Name == "" {
		return nil
	}
	v := &api.RuntimeView{Name: r.Name, Process: r.Process, Fixed: r.Fixed, Set: r.Set}
	if now := c.Window.MemoryLimit; r.Heap && c.StartLimit > 0 && now >= c.StartLimit+c.StartLimit/2 {
		v.Advice = fmt.Sprintf("it started with a memory limit of %s and has %s now, which its heap does not use; "+
			"`docker restart %s` would let it size itself again (EffiScale does not restart containers)",
			c.StartLimit, now, c.Name)
	}
	if r.Heap && !c.State.Runs() && c.Window.LastOOM.IsZero() && c.State != knowledge.StateCreated {
		v.Advice = "it ended, and not by an OOM kill: its own heap limit, which does not follow the memory limit, ends it " +
			"like that as well"
	}
	return v
}
