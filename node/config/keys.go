package config

import (
	"strings"
	"time"

	"github.com/effiscale/effiscale/knowledge"
)

// binding ties a key to its place in a Config or a Policy.
type binding struct {
	section, name string
	label         string // the label that overrides it, without "effiscale."
	help          string
	restart       bool // a change takes effect after a restart only
	field
}

func (b binding) path() string { return b.section + "." + b.name }

// env is the variable that overrides the key.
func (b binding) env() string { return envName(b.section, b.name) }

func envName(parts ...string) string {
	return "EFFISCALE_" + strings.ToUpper(strings.Join(parts, "_"))
}

// bindings lists every key but those of classes and services, in the order of the file.
func (c *Config) bindings() []binding {
	var all []binding
	for _, section := range [][]binding{
		c.nodeKeys(), c.dockerKeys(), c.apiKeys(), c.clusterKeys(), c.monitorKeys(), knobs(&c.Policy),
		c.limitKeys(), c.storeKeys(), c.logKeys(),
	} {
		all = append(all, section...)
	}
	return all
}

func (c *Config) nodeKeys() []binding {
	return []binding{
		{
			section: "node", name: "name", restart: true,
			help:  "name of this node; empty: the host's name",
			field: textField{&c.Node.Name, optional(checkName), nameWords + "; or empty"},
		},
		{
			section: "node", name: "data_dir", restart: true,
			help:  "directory of the database",
			field: textField{&c.Node.DataDir, checkPath, "an absolute path"},
		},
		{
			section: "node", name: "mode", label: "mode",
			help:  "mode of managed containers: off, observe, recommend, or auto (change limits)",
			field: modeField(&c.Node.Mode),
		},
		{
			section: "node", name: "zone",
			help:  "location of this host, shown by the controller service",
			field: textField{&c.Node.Zone, checkName, nameWords},
		},
	}
}

func (c *Config) dockerKeys() []binding {
	return []binding{
		{
			section: "docker", name: "host", restart: true,
			help: "address of the Docker Engine; empty: as docker has it (DOCKER_HOST, DOCKER_CONTEXT, the current context, " +
				"unix:///var/run/docker.sock)",
			field: textField{&c.Docker.Host, optional(checkEngine), `"unix:///path" or "tcp://host:port"; or empty`},
		},
		{
			section: "docker", name: "actuator",
			help: "where limits in force are set: kernel (cgroup files; the Engine has start limits) or engine (the Engine " +
				"only)",
			field: enumField(&c.Docker.Actuator, knowledge.ParseActuator, knowledge.ActuatorKernel, knowledge.ActuatorEngine),
		},
		{
			section: "docker", name: "timeout", restart: true,
			help:  "timeout of an Engine update or listing; an inspect gets half of it",
			field: spanField{&c.Docker.Timeout, time.Second, 5 * time.Minute},
		},
		{
			section: "docker", name: "only_label", restart: true,
			help:  "manage only containers with this label, so that several daemons can share an Engine; empty: all",
			field: textField{&c.Docker.OnlyLabel, optional(checkOnlyLabel), `"key" or "key=value", up to 256 bytes; or empty`},
		},
	}
}

func (c *Config) apiKeys() []binding {
	address := func(name string, p *string, help string) binding {
		return binding{section: "api", name: name, restart: true, help: help + "; port 0: any free port; empty: disabled",
			field: textField{p, optional(checkAddress), `"host:port", or empty`}}
	}
	file := func(name string, p *string, help string) binding {
		return binding{section: "api", name: name, restart: true, help: help,
			field: textField{p, optional(checkPath), "an absolute path, or empty"}}
	}
	return []binding{
		address("monitor", &c.API.Monitor, "address of the monitor service (measurements)"),
		address("controller", &c.API.Controller, "address of the controller service (decisions)"),
		address("execution", &c.API.Execution, "address of the execution service (actions)"),
		{
			section: "api", name: "socket", restart: true,
			help:  "unix socket of the commands",
			field: textField{&c.API.Socket, checkOwnSocket, "an absolute path of at most 103 bytes"},
		},
		{
			section: "api", name: "socket_group", restart: true,
			help:  "group that may use the socket and change limits over loopback, if it exists; empty: root only",
			field: textField{&c.API.SocketGroup, optional(checkName), nameWords + "; or empty"},
		},
		file("tokens_file", &c.API.TokensFile, "bearer tokens, one \"role:sha256[:name]\" a line; required beyond loopback"),
		file("tls_cert", &c.API.TLSCert, "certificate of the three services, PEM; required beyond loopback"),
		file("tls_key", &c.API.TLSKey, "private key of that certificate, PEM"),
		{
			section: "api", name: "hosts", restart: true,
			help:  "names allowed in the Host header, besides the bound addresses",
			field: listField{&c.API.Hosts, checkHost, 32, "up to 32 host names or addresses, without ports"},
		},
	}
}

func (c *Config) monitorKeys() []binding {
	every := func(name string, p *time.Duration, least, most time.Duration, help string) binding {
		return binding{section: "monitor", name: name, help: help, field: spanField{p, least, most}}
	}
	m := &c.Monitor
	return []binding{
		every("hot_every", &m.HotEvery, 50*time.Millisecond, time.Second,
			"sampling interval of a throttled or fast growing container"),
		every("every", &m.Every, 200*time.Millisecond, time.Minute, "sampling interval of a busy container"),
		every("idle_every", &m.IdleEvery, time.Second, 5*time.Minute, "sampling interval of an idle container"),
		every("slow_every", &m.SlowEvery, time.Second, 5*time.Minute,
			"sampling interval of memory details, pressure, I/O and pids"),
		every("list_every", &m.ListEvery, 5*time.Second, 10*time.Minute,
			"interval of listing all containers, to repair missed events"),
		every("deliberate_every", &m.DeliberateEvery, time.Second, 10*time.Minute,
			"interval of the deliberation, which sets floors and ceilings"),
		{
			section: "monitor", name: "stale_after",
			help:  "a sample older than this many intervals is not used",
			field: countField{&m.StaleAfter, 2, 20},
		},
		{
			section: "monitor", name: "budget",
			help:  "share of one core that measuring may use before intervals are lengthened",
			field: shareField{p: &m.Budget, least: 0.001, most: 1},
		},
	}
}

func (c *Config) limitKeys() []binding {
	l := &c.Limits
	return []binding{
		{
			section: "limits", name: "host_cpu_reserve",
			help:  "share of the host's cores that is not allocated",
			field: shareField{p: &l.HostCPUReserve, least: 0, most: 0.9},
		},
		{
			section: "limits", name: "host_memory_reserve",
			help:  "share of the host's memory that is not allocated",
			field: shareField{p: &l.HostMemoryReserve, least: 0, most: 0.9},
		},
		{
			section: "limits", name: "host_memory_least",
			help:  "least memory that is not allocated, whatever host_memory_reserve is",
			field: sizeField{p: &l.HostMemoryLeast, least: 16 * knowledge.MiB, most: knowledge.TiB},
		},
		{
			section: "limits", name: "cpu_overcommit",
			help:  "cores that containers may use together, as a factor of the cores that may be allocated",
			field: factorField{&l.CPUOvercommit, 0.1, 10},
		},
		{
			section: "limits", name: "container_cpu_max",
			help:  "highest CPU limit of any container, whatever its label is",
			field: coresField{&l.ContainerCPUMax, knowledge.OneCPU / 20, knowledge.MaxCPU, wordHost},
		},
		{
			section: "limits", name: "container_memory_max",
			help:  "highest memory limit of any container, whatever its label is",
			field: sizeField{&l.ContainerMemoryMax, leastMemory, knowledge.MaxBytes, wordHost},
		},
		{
			section: "limits", name: "actions_per_minute",
			help:  "most changes of one container in a minute, boosts not counted",
			field: countField{&l.ActionsPerMinute, 1, 600},
		},
		{
			section: "limits", name: "step_up",
			help:  "largest factor of one increase outside a boost",
			field: factorField{&l.StepUp, 1.05, 10},
		},
		{
			section: "limits", name: "step_down",
			help:  "smallest factor of one reduction",
			field: factorField{&l.StepDown, 0.1, 0.99},
		},
	}
}

func (c *Config) storeKeys() []binding {
	return []binding{
		{
			section: "store", name: "max_size", restart: true,
			help:  "largest size of the database",
			field: sizeField{p: &c.Store.MaxSize, least: knowledge.MiB, most: 16 * knowledge.GiB},
		},
		{
			section: "store", name: "flush_every",
			help:  "interval of writing profiles to the database; actions are written at once",
			field: spanField{&c.Store.FlushEvery, time.Second, 5 * time.Minute},
		},
	}
}

func (c *Config) logKeys() []binding {
	return []binding{
		{
			section: "log", name: "level", restart: true,
			help:  "lowest level that is logged; each decision is one line at info",
			field: choiceField(&c.Log.Level, "debug", "info", "warn", "error"),
		},
		{
			section: "log", name: "format", restart: true,
			help:  "log format; auto: console on a terminal, else JSON",
			field: choiceField(&c.Log.Format, "auto", "json", "console"),
		},
	}
}
