"""A program: cancel what no run and no hook has reached, as the scheduled flow does it."""

from prefect_replicate import cancel_orphaned_predictions

if __name__ == "__main__":
    cancel_orphaned_predictions(grace=0)
