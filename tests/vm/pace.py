"""From the unit's start to all of 100 apps running, compared with a loop that only spawns. Printed, not judged."""
from lib import Guest, check, main, say

LOOP = 'begin=$(date +%s%N); for i in $(seq 100); do sleep 200000 & done; end=$(date +%s%N); echo $(((end - begin) / 1000)); kill $(jobs -p)'


def test(vm):
    guest = Guest(vm)
    guest.install()
    toml = ''.join('[[apps]]\nname = "a%d"\ncmd = "sleep 100001"\n' % n for n in range(100))
    guest.run('cat >/srv/many.toml', stdin=toml)
    guest.run('clmgr startup; clmgr start /srv/many.toml', timeout=600)
    ratios = []
    for _ in range(3):
        guest.systemctl('stop clmgr')
        check('all have ended', guest.sleepers() == {}, guest.sleepers())
        loop = int(guest.run(LOOP).split()[-1])
        guest.systemctl('start clmgr')
        check('all run when the unit is ready', guest.sleepers() == {'100001': 100}, guest.sleepers())
        unit = int(guest.property('ActiveEnterTimestampMonotonic')) - int(guest.property('ExecMainStartTimestampMonotonic'))
        ratios.append(unit / loop)
        say('unit %d ms, bare loop %d ms, ratio %.2f' % (unit // 1000, loop // 1000, unit / loop))
    say('ratio %.2f (best of three; the aim with a release build is 2)' % min(ratios))


main(test, 'pace')
