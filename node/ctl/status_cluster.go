package ctl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/effiscale/effiscale/node/api"
)

// health summarises a cluster for status and members.
type health struct {
	// members are those that are alive or failed.
	alive, members, expected int
	majority, ringsDiffer    bool
}

// text is "healthy 3/3", or the worst problem.
func (h health) text(p *page) string {
	of := max(h.expected, h.members)
	count := fmt.Sprintf(" %d/%d", h.alive, of)
	switch {
	case !h.majority:
		return p.style(styleRed, "minority"+count)
	case h.alive < of:
		return p.style(styleYellow, "incomplete"+count)
	case h.ringsDiffer:
		return p.style(styleYellow, "unsettled"+count)
	}
	return p.style(styleGreen, "healthy") + count
}

// warnings explain a lost majority and differing ring checksums.
func (h health) warnings(p *page) {
	if !h.majority {
		remedy := "Check the network between the hosts. If hosts will not return, remove them with " +
			"`effiscale leave NAME`; see `effiscale help failures`."
		if 2*h.alive > h.expected {
			remedy = "Some nodes restarted their count of members, after a new or restored disk or `leave`. " +
				"If this lasts for minutes, see `effiscale help failures`."
		}
		p.problem(fmt.Sprintf("This partition has no majority, %d of %d nodes: limits still follow demand, "+
			"replica counts do not change. %s", h.alive, max(h.expected, h.members), remedy))
	}
	if h.ringsDiffer {
		p.warning("The nodes disagree about the owners of services (their ring checksums differ). This ends within seconds " +
			"of a membership change; if it lasts, run `effiscale members` on each node and compare the nodes.")
	}
}

// clusterHealth is nil on a node without peers, present or expected.
func clusterHealth(c *api.ClusterView) *health {
	if c == nil || c.Members <= 1 && c.Expected <= 1 && c.Majority {
		return nil
	}
	return &health{
		alive: c.Alive, members: c.Members, expected: c.Expected, majority: c.Majority, ringsDiffer: c.RingsDiffer,
	}
}

// hasLeft reports whether the node left its cluster; else it counts itself as a member.
func hasLeft(c *api.ClusterView) bool { return c != nil && c.Members == 0 }

// isHere reports whether a container runs on this host.
func isHere(st api.Status, c api.ContainerView) bool { return c.Host == "" || c.Host == st.Node.Name }

// hostTable shows this host and the others of its cluster.
func hostTable(p *page, st api.Status) *table {
	n := st.Node
	t := &table{head: []string{"HOST", "CPU", "MEMORY", "CPU GRANTED/POOL", "CONTAINERS", "MANAGED"},
		right: map[int]bool{4: true, 5: true}}
	containers, managed := 0, 0
	for _, c := range st.Containers {
		if !isHere(st, c) {
			continue
		}
		containers++
		if c.Managed {
			managed++
		}
	}
	cpu, memory := hostCells(n.CPUs, n.CPUUsed, n.MemoryBytes, n.MemoryUsed)
	self := []string{n.Name, cpu, memory, poolCell(n.PoolCPUGranted, n.PoolCPU),
		fmt.Sprint(containers), fmt.Sprint(managed)}
	others := otherHosts(st)
	if len(others) == 0 {
		t.right = nil
		t.add(self...)
		return t
	}
	t.head = append(t.head, "STATE")
	self[0] = n.Name + "*"
	t.add(append(self, p.style(styleGreen, "alive"))...)
	for _, h := range others {
		cpu, memory := hostCells(h.CPUs, h.CPUUsed, h.MemoryBytes, h.MemoryUsed)
		count, managed, pool := fmt.Sprint(h.Containers), fmt.Sprint(h.Managed), "-"
		if h.PoolCPU > 0 {
			pool = poolCell(h.PoolCPUGranted, h.PoolCPU)
		}
		if h.CPUs == 0 || !isAlive(h.Status) { // the values are old
			cpu, memory, pool, count, managed = "-", "-", "-", "-", "-"
		}
		t.add(h.Name, cpu, memory, pool, count, managed, hostState(p, h))
		if h.Error != "" {
			t.note("! " + h.Error)
		}
	}
	return t
}

func poolCell(granted, pool float64) string { return coreText(granted) + "/" + coreText(pool) }

// summaryOf is the last hour of all hosts that answered; of names them when there is
// more than one host.
func summaryOf(st api.Status) (s api.Summary, of string) {
	c := st.Cluster
	switch {
	case c == nil || len(c.Hosts) < 2:
		return st.Summary, ""
	case c.SummaryOf == 0: // a daemon of an older version
		return st.Summary, " on " + st.Node.Name
	case c.SummaryOf < len(c.Hosts):
		return c.Summary, fmt.Sprintf(" on %d of %d hosts", c.SummaryOf, len(c.Hosts))
	}
	return c.Summary, fmt.Sprintf(" on %d hosts", c.SummaryOf)
}

// otherHosts are the hosts of the cluster without this one, by name.
func otherHosts(st api.Status) []api.HostView {
	if st.Cluster == nil {
		return nil
	}
	others := slices.DeleteFunc(slices.Clone(st.Cluster.Hosts), func(h api.HostView) bool { return h.ID == st.Node.ID })
	slices.SortStableFunc(others, func(a, b api.HostView) int { return strings.Compare(a.Name, b.Name) })
	return others
}

func hostCells(cpus int, used float64, memory, memoryUsed int64) (cpuCell, memoryCell string) {
	if cpus == 0 && memory == 0 {
		return "-", "-"
	}
	unit, size := unitOf(memory)
	cpuCell = fmt.Sprintf("%s/%d  %s", coreText(used), cpus, percent(used, float64(cpus)))
	memoryCell = fmt.Sprintf("%s/%s %s  %s", inUnit(memoryUsed, size), inUnit(memory, size), unit,
		percent(float64(memoryUsed), float64(memory)))
	return cpuCell, memoryCell
}

func hostState(p *page, h api.HostView) string {
	switch {
	case h.Status == "failed":
		return p.style(styleRed, "failed !")
	case h.Status != "alive":
		return p.style(styleYellow, orDash(h.Status))
	case h.Degraded:
		return p.style(styleRed, "degraded !")
	case h.Error != "":
		return p.style(styleYellow, "no answer")
	}
	return p.style(styleGreen, "alive")
}

// ownerText names the owner of a container's service and its standbys; "" on a single
// host.
func ownerText(p *page, ex api.Explain) string {
	if ex.Term == "" && len(ex.Warm) == 0 && ex.OwnerState == "" {
		return ""
	}
	parts := []string{orDash(ex.Owner)}
	switch {
	case ex.Owner == ex.Node:
		parts[0] += " (same host)"
	case ex.OwnerState != "" && ex.OwnerState != "alive":
		parts[0] += " (" + p.style(styleRed, ex.OwnerState) + ")"
	case ex.OwnerState != "":
		parts[0] += " (" + ex.OwnerState + ")"
	}
	if ex.Term != "" {
		parts = append(parts, "term "+ex.Term)
	}
	if ex.IntentAge > 0 {
		parts = append(parts, "last confirmed "+span(ex.IntentAge)+" ago")
	}
	if len(ex.Warm) > 0 {
		parts = append(parts, "standby: "+strings.Join(ex.Warm, ", "))
	}
	return strings.Join(parts, "; ")
}
