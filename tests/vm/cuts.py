"""Power cuts while commands run, on a disk that loses what was not flushed: what was acknowledged is there after the
boot, and of the one command that was not, all or nothing."""
import copy, random, sys, threading, time

from lib import DATABASE, LONG, PATIENCE, SEED, Guest, RigError, check, main, say

CUTS = 50 if LONG else 3
USER = sys.argv[1] if len(sys.argv) > 1 else 'root'
# Nothing reaches the disk but what is flushed.
LAZY = 'mount -o remount,commit=300 /; sysctl -qw vm.dirty_writeback_centisecs=0 vm.dirty_expire_centisecs=600000'


class Model:
    """What is wanted: {name: {count, held, stopped, number}}; `number` is what its processes sleep for."""

    def __init__(self):
        self.apps, self.next = {}, 100000

    def states(self):
        return {'%s:%d' % (name, slot): 'stopped' if app['stopped'] or slot in app['held'] else 'online'
                for name, app in self.apps.items() for slot in range(app['count'])}

    def sleepers(self):
        found = {}
        for app in self.apps.values():
            if not app['stopped'] and app['count'] > len(app['held']):
                found[str(app['number'])] = app['count'] - len(app['held'])
        return found

    def add(self, count):
        self.next += 1
        name = 'w%d' % self.next
        self.apps[name] = dict(count=count, held=set(), stopped=False, number=self.next)
        return name

    def step(self, rnd):
        """A command, and the model after it."""
        after = copy.deepcopy(self)
        apps = after.apps
        running = [name for name in apps if not apps[name]['stopped']]
        stopped = [name for name in apps if apps[name]['stopped']]
        few = [name for name in running if apps[name]['count'] <= 4]
        many = [name for name in running if apps[name]['count'] - len(apps[name]['held']) >= 2]
        shrinking = [name for name in many if apps[name]['count'] - 1 not in apps[name]['held']]
        held = [name for name in running if apps[name]['held']]
        choices = []
        if len(apps) < 8:
            choices += ['new', 'file']
        choices += ['stop'] * (len(running) > 1) + ['start'] * bool(stopped) + ['up'] * bool(few) + ['down'] * bool(shrinking)
        choices += ['delete'] * (len(apps) > 2) + ['hold'] * bool(many) + ['unhold'] * bool(held) + ['stop2'] * (len(running) > 3)
        what = rnd.choice(choices)
        if what == 'new':
            count = rnd.randint(1, 3)
            name = after.add(count)
            return 'clmgr start "sleep %d" --name %s -i %d' % (after.next, name, count), after
        if what == 'file':
            names = [after.add(count) for count in (2, 1)]
            text = ''.join('[[apps]]\\nname="%s"\\ncmd="sleep %d"\\ninstances=%d\\n' % (name, apps[name]['number'], apps[name]['count']) for name in names)
            return "printf '%s' >/tmp/e.toml; clmgr start /tmp/e.toml" % text, after
        if what in ('stop', 'stop2'):
            names = rnd.sample(running, 2 if what == 'stop2' else 1)
            for name in names:
                apps[name].update(stopped=True, held=set())
            return 'clmgr stop ' + ' '.join(names), after
        if what == 'start':
            name = rnd.choice(stopped)
            apps[name].update(stopped=False, held=set())
            return 'clmgr start ' + name, after
        if what == 'up':
            name = rnd.choice(few)
            apps[name]['count'] += 2
            return 'clmgr scale %s +2' % name, after
        if what == 'down':
            name = rnd.choice(shrinking)
            apps[name]['count'] -= 1
            return 'clmgr scale %s -1' % name, after
        if what == 'delete':
            name = rnd.choice(list(apps))
            del apps[name]
            return 'clmgr delete ' + name, after
        if what == 'hold':
            name = rnd.choice(many)
            slot = rnd.choice([slot for slot in range(apps[name]['count']) if slot not in apps[name]['held']])
            apps[name]['held'].add(slot)
            return 'clmgr stop %s:%d' % (name, slot), after
        name = rnd.choice(held)
        slot = rnd.choice(sorted(apps[name]['held']))
        apps[name]['held'].discard(slot)
        return 'clmgr start %s:%d' % (name, slot), after


class Commands(threading.Thread):
    """Runs commands until the power goes, or for a number of them."""

    def __init__(self, guest, model, rnd, count):
        super().__init__()
        self.guest, self.model, self.rnd, self.count = guest, model, rnd, count
        self.pending, self.refused, self.done = None, None, 0

    def run(self):
        try:
            while self.done < self.count and self.refused is None:
                command, after = self.model.step(self.rnd)
                self.pending = (command, after)
                r = self.guest.try_run(command)
                if r.rc != 0:
                    self.refused = '%s: exit %d: %s%s' % (command, r.rc, r.out, r.err)
                    return
                self.model, self.pending, self.done = after, None, self.done + 1
        except (RigError, OSError):
            pass


def test(vm):
    guest = Guest(vm, USER)
    guest.install()
    guest.root('clmgr startup' + ('' if USER == 'root' else ' --user ' + USER), timeout=600)
    vm.run('sync; sleep 0.5; sync')
    model = Model()
    unacknowledged = 0
    for cut in range(CUTS):
        seed = SEED + cut
        rnd = random.Random(seed)
        vm.run(LAZY)
        # Every third cut comes right after an answer, the others at any moment.
        after_answer = cut % 3 == 0
        commands = Commands(guest, model, rnd, rnd.randint(3, 8) if after_answer else 1000)
        commands.start()
        if after_answer:
            commands.join(PATIENCE)
            check('cut %d: the commands end' % cut, not commands.is_alive(), commands.pending)
        else:
            time.sleep(3 + rnd.random() * 8)
        mode = ['random', 'drop'][cut % 2]
        vm.power_cut(mode, seed=seed)
        commands.join(PATIENCE)
        check('cut %d: nobody waits for the machine that is gone' % cut, not commands.is_alive(), commands.pending)
        check('cut %d: no command was refused' % cut, commands.refused is None, commands.refused)
        guest.boot()
        guest.unit_is_up()
        sound = guest.root(DATABASE % guest.home)
        candidates = [commands.model] + ([commands.pending[1]] if commands.pending else [])
        unacknowledged += len(candidates) - 1
        found = []

        def as_wanted():
            states, sleepers = guest.states(), guest.sleepers()
            found[:] = [one for one in candidates if one.states() == states and one.sleepers() == sleepers]
            return bool(found)

        what = 'cut %d (%s, seed %d): %d acknowledged%s' % (cut, mode, seed, commands.done, ', 1 not: ' + commands.pending[0] if commands.pending else '')
        try:
            guest.until(what, as_wanted)
        except Exception:
            say('expected one of', [(one.states(), one.sleepers()) for one in candidates])
            raise
        check('the database is sound', sound == 'ok []', sound)
        model = copy.deepcopy(found[0])
        model.next = max(one.next for one in candidates)
    say('%d cuts, %d of them with a command under way' % (CUTS, unacknowledged))


main(test, 'cuts', volatile=True)
