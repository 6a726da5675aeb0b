package pipeline

import (
	"fmt"
	"time"
)

// Config is a whole configuration, by KernelCI's own names. It is read-only:
// every part may be shared by goroutines. Maps are keyed by the item's name and
// are never nil.
//
// Free values (params, context, notify, the values of an event) are string,
// bool, int, float64, nil, []any and map[string]any.
type Config struct {
	API          map[string]*API
	Storage      map[string]*Storage
	Runtimes     map[string]*Runtime
	Trees        map[string]*Tree
	BuildConfigs map[string]*BuildConfig
	Jobs         map[string]*Job
	Platforms    map[string]*Platform
	Scheduler    []*Entry // in the order of the files
	Fragments    map[string]*Fragment
	Rootfs       map[string]*Rootfs
}

// Place is where an item is written.
type Place struct {
	File string // path below the loaded folder, with slashes
	Line int    // from 1; 0 for the file as a whole
}

// String is "file:line".
func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// API is an address of a KernelCI API (`api`).
type API struct {
	Name    string
	Place   Place
	URL     string
	Version string
	Timeout float64 // seconds; 0: not given
}

// Storage is a place for artifacts (`storage`).
type Storage struct {
	Name        string
	Place       Place
	StorageType string // backend, ssh
	BaseURL     string // where artifacts are read from
	APIURL      string
	Host        string
	Port        int
	User        string
	Path        string
}

// Tree is a git repository (`trees`).
type Tree struct {
	Name  string
	Place Place
	URL   string
}

// BuildConfig is a branch of a tree that is watched (`build_configs`).
type BuildConfig struct {
	Name          string
	Place         Place
	Tree          string
	Branch        string        // a branch, or the http(s) URL of a JSON list of {branch, date}
	Architectures []string      // empty: all
	Frequency     time.Duration // least time between two checkouts; 0: no limit
	Priority      string        // high, medium, low or a number; "" when not given
}

// Order is how the keys of a mapping stand in its file, and of what is inside
// it: a template that lists them sees them so. An Order is shared: nobody
// changes it.
type Order struct {
	Keys  []string          // of a mapping
	Under map[string]*Order // of its values that are no scalars
	Items []*Order          // of a list; nil for a scalar
}

// Job is what can be run (`jobs`).
type Job struct {
	Name           string
	Place          Place
	Template       string
	Kind           string // node kind: kbuild, job, process, test; "node" when not given
	Image          string // may hold {image_prefix}
	BaseName       string
	Priority       string // high, medium, low or a number; "" when not given
	KCIDBTestSuite string
	Params         map[string]any // never nil
	ParamsOrder    *Order         // nil: there are none
	Rules          *Rules         // nil: none
	Frequency      time.Duration  // params.frequency: least time between two runs for a tree, branch and platform; 0: no limit
}

// Platform is a kind of machine (`platforms`).
type Platform struct {
	Name       string
	Place      Place
	Arch       string // "x86_64" when not given
	BaseName   string // the platform's name when not given
	BootMethod string // "grub" when not given
	Mach       string // "x86" when not given
	DTB        []string
	Compatible []string
	FlashImage string
	Context    map[string]any // nil: none
	Params     map[string]any // never nil
	Rules      *Rules         // nil: none

	ContextOrder, ParamsOrder *Order // nil: there are none
}

// Runtime is a lab or another place where jobs run (`runtimes`).
type Runtime struct {
	Name    string
	Place   Place
	LabType string // one of LabTypes
	URL     string
	Rules   *Rules // nil: none

	// LAVA.
	Priority                    string // high, medium, low or a number; "" when not given
	PriorityMin                 *int   // 0 to 100; nil: not given
	PriorityMax                 *int
	QueueTimeout                map[string]any // days, hours, minutes
	Notify                      map[string]any
	NotifyOrder                 *Order
	MaxQueueDepth               int     // jobs per device; 50 when not given
	MaxQueueDepthPriorityFactor float64 // 1 or more; 2 when not given
	DisableQueueLimit           bool

	// Docker, shell and others that run commands.
	EnvFile string
	Volumes []string
	User    string
	Timeout float64 // seconds; 0: not given

	// Kubernetes: the contexts to choose from.
	Context []string

	// Pull labs.
	PollInterval float64 // seconds; 30 when not given
	StorageName  string
}

// LabTypes lists the kinds of runtime.
var LabTypes = []string{"docker", "kubernetes", "lava", "pull_labs", "shell", "ssh"}

// Entry says which event starts which job, where (`scheduler`).
type Entry struct {
	Place       Place
	Index       int            // place in Config.Scheduler, from 0
	Job         string         // always in Config.Jobs
	Channel     string         // event.channel
	Event       map[string]any // what the event must hold, without channel
	RuntimeName string
	RuntimeType string   // used when RuntimeName is empty
	Platforms   []string // empty: the platform named like the runtime's lab type
	Rules       *Rules   // nil: none
}

// Rules say for which nodes something applies.
type Rules struct {
	Place      Place
	MinVersion *KernelVersion // nil: no limit
	MaxVersion *KernelVersion
	Frequency  time.Duration // 0: no limit
	Lists      []Rule        // tree, branch, arch, ...: in the order of the file, each key once
}

// Rule is an allow and deny list for one attribute of a node.
type Rule struct {
	Place  Place
	Key    string
	Values []string // "!x" denies x; for tree and branch also "tree:branch"
}

// KernelVersion is the first two numbers of a kernel's version.
type KernelVersion struct {
	Version    int
	PatchLevel int
}

// String is "version.patchlevel".
func (v KernelVersion) String() string { return fmt.Sprintf("%d.%d", v.Version, v.PatchLevel) }

// Fragment is a piece of kernel configuration (`fragments`).
type Fragment struct {
	Name      string
	Place     Place
	Path      string
	Configs   []string
	Defconfig string
}

// Rootfs names root file systems by the parameter that each becomes (ramdisk,
// nfsroot, ...); a job refers to it by params.rootfs_ref (`rootfs`).
type Rootfs struct {
	Name   string
	Place  Place
	Params map[string]string
}
