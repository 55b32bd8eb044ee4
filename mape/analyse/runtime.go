package analyse

import "strings"

// Runtime is what is known of a program that sizes itself when it starts.
type Runtime struct {
	Name    string // empty: not known
	Process string // the name by which it was recognised
	// Fixed is what it sizes at its start; Set is what to set instead.
	Fixed, Set string
	// Heap: it does not use more memory than it planned at its start, whatever the limit
	// becomes.
	Heap bool
}

// runtimes are the programs by the name of their process. `effiscale help runtimes` says how it
// was measured; the test of that topic holds the two together.
func runtimes() []Runtime {
	return []Runtime{
		{"OpenJDK", "java", "heap, garbage collector, and thread pools, from the limits at its start",
			"-XX:MaxRAMPercentage or -Xmx (JAVA_TOOL_OPTIONS)", true},
		{"Node.js", "node", "V8's heap, from the memory limit at its start", "--max-old-space-size (NODE_OPTIONS)", true},
		{".NET", "dotnet", "heap limit of the garbage collector, from the memory limit at its start",
			"DOTNET_GCHeapHardLimit or DOTNET_GCHeapHardLimitPercent", true},
		{"Erlang/OTP", "beam.smp", "a scheduler for each CPU of the host; RabbitMQ: a watermark by the host's memory",
			"+S in ERL_FLAGS; vm_memory_high_watermark.absolute", false},
		{"PostgreSQL", "postgres", "shared_buffers, taken when they are first read into",
			"shared_buffers, work_mem, max_connections", false},
		{"MariaDB or MySQL", "mariadbd", "innodb_buffer_pool_size, taken as it fills", "innodb_buffer_pool_size", false},
		{"MariaDB or MySQL", "mysqld", "innodb_buffer_pool_size, taken as it fills", "innodb_buffer_pool_size", false},
		{"MongoDB", "mongod", "WiredTiger's cache, from the memory limit at its start", "--wiredTigerCacheSizeGB", false},
		{"Redis", "redis-server", "nothing; saving can double its memory while data changes",
			"maxmemory, maxmemory-policy, oom-score-adj yes", false},
		{"Valkey", "valkey-server", "nothing; saving can double its memory while data changes",
			"maxmemory, maxmemory-policy, oom-score-adj yes", false},
		{"memcached", "memcached", "the size of its cache, as configured", "-m, -t", false},
		{"nginx", "nginx", "worker processes: with auto, one for each CPU of the host", "worker_processes", false},
		{"HAProxy", "haproxy", "threads: one for each CPU of the host", "nbthread, maxconn", false},
		{"PHP-FPM", "php-fpm", "the number of processes, as configured", "pm.max_children, memory_limit", false},
	}
}

// RuntimeOf recognises a runtime by the names of the processes of a container. Where there are
// several, as below a shell or a supervisor, the first of the table counts.
func RuntimeOf(processes []string) Runtime {
	for _, r := range runtimes() {
		for _, p := range processes {
			name, _, _ := strings.Cut(p, ":")                                 // "php-fpm: pool www"
			if name == r.Process || strings.HasPrefix(name, r.Process+"-") || // "node-MainThread"
				r.Process == "php-fpm" && strings.HasPrefix(name, r.Process) { // "php-fpm8.2"
				return r
			}
		}
	}
	return Runtime{}
}
