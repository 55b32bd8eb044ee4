package config

import (
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

const (
	wordHost     = "host"     // as an upper bound: what the host has
	wordAdaptive = "adaptive" // as a target: follow the learned thresholds

	leastCPU    = knowledge.OneCPU / 100 // the kernel's 1 ms of quota in 100 ms
	leastMemory = 6 * knowledge.MiB      // Docker refuses less
)

// withoutEffect is the help of keys that lost their purpose, and are still accepted.
const withoutEffect = "without effect: a container starts with its highest limit"

// knobs are the keys of [policy], which are also those of [class.NAME] and
// [service."NAME"]. Each has a label.
func knobs(p *knowledge.Policy) []binding {
	all := append(boundKnobs(p), learningKnobs(p)...)
	for i := range all {
		all[i].section = "policy"
	}
	return all
}

func boundKnobs(p *knowledge.Policy) []binding {
	return []binding{
		{
			name: "cpu", label: "cpu.mode",
			help:  "what follows demand: quota (a hard CPU limit) or weight (a share of the host, no limit)",
			field: enumField(&p.CPUMode, knowledge.ParseCPUMode, knowledge.CPUQuota, knowledge.CPUWeight),
		},
		{
			name: "cpu_min", label: "cpu",
			help:  "lowest CPU limit; the label is min..max",
			field: coresField{p: &p.CPU.Min, least: leastCPU, most: knowledge.MaxCPU},
		},
		{
			name: "cpu_max", label: "cpu",
			help:  "highest CPU limit; host: its cores less the reserve",
			field: coresField{&p.CPU.Max, leastCPU, knowledge.MaxCPU, wordHost},
		},
		{
			name: "memory_min", label: "memory",
			help:  "lowest memory limit; the label is min..max",
			field: sizeField{p: &p.Memory.Min, least: leastMemory, most: knowledge.MaxBytes},
		},
		{
			name: "memory_max", label: "memory",
			help:  "highest memory limit; host: its memory less the reserve",
			field: sizeField{&p.Memory.Max, leastMemory, knowledge.MaxBytes, wordHost},
		},
		{
			name: "cpu_target", label: "cpu.target",
			help:  "target CPU use over limit; adaptive: learned from throttling, once there is evidence",
			field: shareField{&p.CPUTarget, 0.1, 0.95, wordAdaptive},
		},
		{
			name: "memory_target", label: "memory.target",
			help:  "target memory use over limit",
			field: shareField{&p.MemoryTarget, 0.1, 0.95, wordAdaptive},
		},
		{
			name: "weight", label: "weight",
			help:  "share of a full host, relative to the other services",
			field: countField{&p.Weight, 1, 100},
		},
	}
}

func learningKnobs(p *knowledge.Policy) []binding {
	const day = 24 * time.Hour
	return []binding{
		{
			name: "throttle_target", label: "throttle-target",
			help:  "target share of throttled CPU periods; a lower one is faster and costs more",
			field: shareField{p: &p.ThrottleTarget, least: 0.001, most: 0.5},
		},
		{
			name: "cpu_percentile", label: "cpu.percentile",
			help:  "the learned CPU floor covers this share of past use; adaptive: the recommendation of an ensemble of models",
			field: shareField{&p.CPUPercentile, 0.1, 1, wordAdaptive},
		},
		{
			name: "memory_percentile", label: "memory.percentile",
			help:  "the learned memory need covers this share of past peaks; 100% is the highest peak",
			field: shareField{p: &p.MemoryPercentile, least: 0.5, most: 1},
		},
		{
			name: "memory_shrink", label: "memory.shrink",
			help:  "whether memory limits are reduced",
			field: boolField{&p.MemoryShrink},
		},
		{
			name: "start_boost", label: "start-boost",
			help:  withoutEffect,
			field: factorField{new(1.0), 1, 20},
		},
		{
			name: "start_boost_for", label: "start-boost-for",
			help:  withoutEffect,
			field: spanField{new(time.Minute), time.Second, time.Hour},
		},
		{
			name: "shrinks_per_day", label: "shrinks-per-day",
			help:  "most reductions of memory or of the CPU floor in a day",
			field: countField{&p.ShrinksPerDay, 0, 10000},
		},
		{
			name: "observe_first", label: "observe-first",
			help:  "observation time of an unlimited container, or of its image, before it gets a limit",
			field: spanField{&p.ObserveFirst, time.Second, day},
		},
		{
			name: "shrink_after", label: "shrink-after",
			help:  "steady time of memory before its limit is reduced",
			field: spanField{&p.ShrinkAfter, 10 * time.Second, 7 * day},
		},
		{
			name: "oom_protect", label: "oom-protect",
			help:  "time without reductions after an OOM kill",
			field: spanField{&p.OOMProtect, 10 * time.Second, 7 * day},
		},
		{
			name: "yield_for", label: "yield-for",
			help:  "time for which a change by a person or by Compose is kept",
			field: spanField{&p.YieldFor, 0, 7 * day},
		},
	}
}

// serviceKnobs are the keys of [service."NAME"]: the policy's, and two more.
func serviceKnobs(p *knowledge.Policy) []binding {
	return append([]binding{
		{
			section: "service", name: "class", label: "class",
			help:  "preset of a service's policy",
			field: enumField(&p.Class, knowledge.ParseClass, knowledge.Classes()...),
		},
		{
			section: "service", name: "mode", label: "mode",
			help:  "mode of a service, overrides node.mode",
			field: modeField(&p.Mode),
		},
	}, knobs(p)...)
}

func modeField(p *knowledge.Mode) field {
	return enumField(p, knowledge.ParseMode,
		knowledge.ModeOff, knowledge.ModeObserve, knowledge.ModeRecommend, knowledge.ModeAuto)
}
