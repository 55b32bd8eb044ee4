package view

import (
	"fmt"

	"github.com/effiscale/effiscale/knowledge"
	"github.com/effiscale/effiscale/mape"
	"github.com/effiscale/effiscale/node/api"
)

// unrecorded are a person's limits that are in force in the kernel, and that the Engine does not
// have on record.
func unrecorded(c *mape.ContainerStatus) (out []string) {
	for r := range knowledge.Resource(len(c.Planned)) {
		to, missing := c.Marks.Unrecorded(r)
		if !missing {
			continue
		}
		text := fmt.Sprintf("%s %s is in force in the kernel, as requested; the Engine has not recorded it, and it starts "+
			"with %s (`effiscale restore %s` gives the original back)", r, Limit(r, to), Limit(r, c.Starts(r)),
			c.Container.Container.Name)
		if c.LastError != "" {
			text += ": " + c.LastError
		}
		out = append(out, text)
	}
	return out
}

// reserved names a memory reservation above the upper bound of the policy; "": it is not.
func reserved(c *mape.ContainerStatus) string {
	least, most := c.Marks.Engine.Reservation, c.Policy.Memory.Max
	if !c.Policy.Managed || !c.Marks.EngineKnown || most == 0 || least <= most {
		return ""
	}
	return fmt.Sprintf("its memory reservation of %s is above its upper bound of %s (effiscale.memory, docker run "+
		"--memory-reservation): it starts with the reservation, as the Engine would refuse less; the bound holds for "+
		"the limit in force", Limit(knowledge.ResourceMemory, int64(least)), Limit(knowledge.ResourceMemory, int64(most)))
}

// addRecord adds what is wrong with what a container starts with.
func addRecord(s *api.Status, c *mape.ContainerStatus) {
	for _, text := range unrecorded(c) {
		add(s, api.ProblemEngine, "%s: %s", c.Container.Container.Name, text)
	}
	if why := reserved(c); why != "" {
		add(s, api.ProblemStart, "%s: %s", c.Container.Container.Name, why)
	}
}
