"""Merge: the cleansed sources as one dataset, with a fixed share of pictures without people."""

from __future__ import annotations

import pandas as pd

from privseg.datasets.split import hash_share
from privseg.params import Params

__all__ = ["merge"]


def merge(params: Params, df: pd.DataFrame) -> pd.DataFrame:
    """Keep ``merge.no_human_share`` pictures without people per kept picture with people, pool by pool.

    Those with the lowest hash of their sample_id stay, so that more data rarely changes the choice; the others are
    removed with reason ``surplus_no_human``. Where there are too few, all stay.

    Args:
        params: ``merge.no_human_share`` is read.
        df: A cleansed manifest of all sources.

    Returns:
        A copy with all rows. Merging its result again changes nothing.
    """
    result = df.copy()
    kept = result[result["status"] == "kept"]
    for _, pool in kept.groupby("pool"):
        without = pool.loc[~pool["is_human"], "sample_id"]
        wanted = round(params.merge.no_human_share * int(pool["is_human"].sum()))
        ranked = pd.DataFrame({"share": without.map(hash_share), "sample_id": without})
        surplus = ranked.sort_values(["share", "sample_id"]).index[wanted:]
        result.loc[surplus, ["status", "reason"]] = ["removed", "surplus_no_human"]
    return result
