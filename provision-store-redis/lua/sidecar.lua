-- Part of the scripts of a sidecar, after the prelude: what a namespace holds that proposes runs of
-- another store.
--
-- An entry is a row like a run's, in which only the due time, the place and the spot mean something.
-- Nothing of it need last: a namespace whose keys are gone begins anew.

FORMATS = { ['sidecar 1'] = true }
call('HSETNX', META, 'format', 'sidecar 1')
